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


def launch_focal_loss(layout=torch.contiguous_format):
    """Forward and backward at many scales, as ``RetinaHead`` with 80 classes has it."""
    from focal_retinanet.ops import focal_loss_triton
    from focal_retinanet.ops.focal_loss_terms import FocalTerms

    for height, width in [(800, 1344), (640, 640), (608, 992), (100, 70), (64, 40)]:
        sizes = [(-(-height // s), -(-width // s)) for s in (8, 16, 32, 64, 128)]
        levels = [torch.empty(1, 9 * 80, *s).to(memory_format=layout) for s in sizes]
        anchors = sum(9 * h * w for h, w in sizes)
        terms = FocalTerms(
            targets=torch.zeros(1, anchors, dtype=torch.int64),
            weights=None,
            alpha_pos=torch.ones(80),
            alpha_neg=torch.ones(80),
            gamma=2.0,
            label_smoothing=0.0,
            ignore_index=-1,
        )
        focal_loss_triton.focal_loss_sum(levels, terms)
        grads = [torch.empty_like(level) for level in levels]
        focal_loss_triton.focal_loss_sum(levels, terms, grads, torch.ones(()))


def launch_focal_loss_of_rows():
    launch_focal_loss(torch.channels_last)


def launch_focal_loss_with_options():
    """What is compiled in another way: types, gamma, weights, smoothing."""
    from focal_retinanet.ops import focal_loss_triton
    from focal_retinanet.ops.focal_loss_terms import FocalTerms

    for dtype, gamma, smoothing, layout in [
        (torch.bfloat16, 2.0, 0.0, torch.contiguous_format),
        (torch.float16, 0.0, 0.1, torch.channels_last),
        (torch.float16, 1.5, 0.0, torch.contiguous_format),
        (torch.bfloat16, 0.5, 0.1, torch.channels_last),
    ]:
        level = torch.empty(2, 9 * 3, 4, 4, dtype=dtype).to(memory_format=layout)
        terms = FocalTerms(
            targets=torch.zeros(2, 144, dtype=torch.int64),
            weights=torch.ones(2, 144),
            alpha_pos=torch.ones(3),
            alpha_neg=torch.ones(3),
            gamma=gamma,
            label_smoothing=smoothing,
            ignore_index=-1,
        )
        focal_loss_triton.focal_loss_sum([level], terms)
        grads = [torch.empty_like(level)]
        focal_loss_triton.focal_loss_sum([level], terms, grads, torch.ones(()))


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


@pytest.mark.parametrize('folder', TRITONS)
@pytest.mark.parametrize('capability', CAPABILITIES)
@pytest.mark.parametrize('launches', ['launch_focal_loss', 'launch_focal_loss_of_rows'])
def test_focal_loss_at_many_scales_is_4_variants(launches, capability, folder):
    assert len(variants(launches, folder, capability)) == 4


@pytest.mark.parametrize('folder', TRITONS)
@pytest.mark.parametrize('capability', CAPABILITIES)
def test_focal_loss_compiles_with_all_options(capability, folder):
    assert len(variants('launch_focal_loss_with_options', folder, capability)) == 8
