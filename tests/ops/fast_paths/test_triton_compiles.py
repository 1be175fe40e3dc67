"""Every Triton kernel compiles for current GPUs with Triton's real compiler.

The tests need no GPU, see ``triton_compiler.py``. ``FOCAL_RETINANET_TRITONS`` names
folders with other versions of Triton, separated by ``os.pathsep``.

The ``launch_`` functions launch all variants that a training run would. A separate
process calls them by name.
"""

import functools
import importlib.metadata
import importlib.util
import json
import os
import re
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
ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec('triton') is None
    or int(importlib.metadata.version('triton').split('.')[0]) < 3,
    reason='no Triton 3.0 or later',
)


def launch_probe():
    from focal_retinanet.ops.fast_paths.triton_probe_kernel import double

    for size in (1, 100, 200, 112):
        double[(1,)](torch.ones(size), size, BLOCK=16)


def launch_matching():
    """Match few and many images of many sizes, with and without objects."""
    from focal_retinanet.ops.matching import triton as matching_triton
    from focal_retinanet.ops.matching.rule import MatchingRule

    for num_anchors in (1, 16, 1000, 1001, 1008):
        aligned = torch.zeros(num_anchors, 4)
        odd = torch.zeros(num_anchors * 4 + 1)[1:].view(-1, 4)
        for anchors in (aligned, odd):
            for counts in ((1,), (0,), (3, 0), (16, 7) * 8):
                gts = [torch.zeros(count, 4) for count in counts]
                excluded = torch.zeros(1 + len(gts), num_anchors, dtype=torch.bool)
                for mask in (None, excluded[1:]):
                    matching_triton.match(anchors, gts, MatchingRule(), mask)


def launch_forward_and_backward(levels, num_classes, weights=None, **options):
    from focal_retinanet.ops.focal_loss import triton as focal_loss_triton
    from focal_retinanet.ops.focal_loss.terms import FocalTerms

    anchors = sum(level[0].numel() for level in levels) // num_classes
    terms = FocalTerms(
        targets=torch.zeros(len(levels[0]), anchors, dtype=torch.int64),
        weights=weights,
        alpha_pos=torch.ones(num_classes),
        alpha_neg=torch.ones(num_classes),
        ignore_index=-1,
        **options,
    )
    focal_loss_triton.focal_loss_sum(levels, terms)
    grads = [torch.empty_like(level) for level in levels]
    focal_loss_triton.focal_loss_sum(levels, terms, grads, torch.ones(()))


def launch_focal_loss(layout=torch.contiguous_format):
    """Compute losses and gradients of a head with 80 classes at many scales."""
    for height, width in [(800, 1344), (640, 640), (608, 992), (100, 70), (64, 40)]:
        sizes = [(-(-height // s), -(-width // s)) for s in (8, 16, 32, 64, 128)]
        levels = [torch.empty(1, 9 * 80, *s).to(memory_format=layout) for s in sizes]
        launch_forward_and_backward(levels, 80, gamma=2.0, label_smoothing=0.0)


def launch_focal_loss_of_rows():
    launch_focal_loss(torch.channels_last)


def launch_focal_loss_with_options():
    """Compute with the options that change the code: dtype, gamma, weights, smoothing."""
    for dtype, gamma, smoothing, layout in [
        (torch.bfloat16, 2.0, 0.0, torch.contiguous_format),
        (torch.float16, 0.0, 0.1, torch.channels_last),
        (torch.float16, 1.5, 0.0, torch.contiguous_format),
        (torch.bfloat16, 0.5, 0.1, torch.channels_last),
    ]:
        level = torch.empty(2, 9 * 3, 4, 4, dtype=dtype).to(memory_format=layout)
        weights = torch.ones(2, 144)
        launch_forward_and_backward(
            [level], 3, weights, gamma=gamma, label_smoothing=smoothing
        )


@functools.cache
def compile_launches(function, folder):
    """Return the launches of a function, as dicts with kernel, capability, key, ptx."""
    environment = {**os.environ, 'TRITON_INTERPRET': '0'}
    paths = [folder, str(ROOT / 'projects'), environment.get('PYTHONPATH', '')]
    environment['PYTHONPATH'] = os.pathsep.join(filter(None, paths))
    compiler = Path(__file__).with_name('triton_compiler.py')
    with tempfile.TemporaryDirectory() as cache:  # without earlier compilations
        environment['TRITON_CACHE_DIR'] = cache
        command = [sys.executable, compiler, __file__, function, *CAPABILITIES]
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
    return json.loads(run.stdout.splitlines()[-1])['launches']


def variants(function, folder, capability):
    """Return the keys of the variants that were compiled for a capability."""
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
def test_probe(capability, folder):
    assert len(variants('launch_probe', folder, capability)) == 1


@pytest.mark.parametrize('folder', TRITONS)
@pytest.mark.parametrize('capability', CAPABILITIES)
@pytest.mark.parametrize('launches', ['launch_focal_loss', 'launch_focal_loss_of_rows'])
def test_focal_loss_at_many_scales_is_4_variants(launches, capability, folder):
    assert len(variants(launches, folder, capability)) == 4


@pytest.mark.parametrize('folder', TRITONS)
@pytest.mark.parametrize('capability', CAPABILITIES)
def test_focal_loss_compiles_with_all_options(capability, folder):
    assert len(variants('launch_focal_loss_with_options', folder, capability)) == 8


@pytest.mark.parametrize('folder', TRITONS)
@pytest.mark.parametrize('capability', CAPABILITIES)
def test_matching(capability, folder):
    # Two kernels, with excluded anchors and without.
    assert len(variants('launch_matching', folder, capability)) == 4
    for launch in compile_launches('launch_matching', folder):
        # Otherwise the IoU would not be bitwise equal to PyTorch's.
        assert 'fma' not in launch['ptx']
        assert 'div.rn' in launch['ptx']
        assert not re.search(r'div\.(full|approx)', launch['ptx'])
