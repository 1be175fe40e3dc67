"""Every Triton kernel compiles for the GPUs of today, by Triton's real compiler.

No GPU is needed: see ``triton_compiler.py``. ``FOCAL_RETINANET_TRITONS`` names
folders of further versions of Triton, with a colon between (``os.pathsep``).

The functions without ``test_`` launch all that a training run would; a process
of its own calls them by name.
"""

import functools
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

CAPABILITIES = ('80', '90')
TRITONS = [
    '',
    *filter(None, os.getenv('FOCAL_RETINANET_TRITONS', '').split(os.pathsep)),
]
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec('triton') is None, reason='Triton is not installed'
)


def launch_probe():
    """The compiler itself: two sizes of which 16 divides one."""
    global tl  # where Triton looks for it
    import triton
    import triton.language as tl

    @triton.jit
    def double(x, size, BLOCK: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        inside = at < size
        tl.store(x + at, tl.load(x + at, mask=inside, other=0.0) * 2, mask=inside)

    for size in (100, 200, 96, 112):
        double[(2,)](torch.ones(size), size, BLOCK=64)


@functools.cache
def compile_launches(function, folder):
    """Launches of a function above, as dicts with kernel, capability, key and ptx."""
    environment = {**os.environ, 'TRITON_INTERPRET': '0'}
    paths = [folder, str(ROOT / 'projects'), environment.get('PYTHONPATH', '')]
    environment['PYTHONPATH'] = os.pathsep.join(filter(None, paths))
    compiler = Path(__file__).with_name('triton_compiler.py')
    with tempfile.TemporaryDirectory() as cache:  # nothing compiled before counts
        environment['TRITON_CACHE_DIR'] = cache
        command = [sys.executable, compiler, __file__, function, *CAPABILITIES]
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
    return json.loads(run.stdout.splitlines()[-1])['launches']


def variants(function, folder, capability):
    """Keys of what was compiled for a capability, each once; all have code for it."""
    launches = [
        launch
        for launch in compile_launches(function, folder)
        if launch['capability'] == int(capability)
    ]
    assert launches
    assert all(f'.target sm_{capability}' in launch['ptx'] for launch in launches)
    return {launch['key'] for launch in launches}


@pytest.mark.parametrize('folder', TRITONS)
@pytest.mark.parametrize('capability', CAPABILITIES)
def test_a_size_that_16_divides_is_a_variant_of_its_own(capability, folder):
    assert len(variants('launch_probe', folder, capability)) == 2
