"""Anchors of section 4 are bitwise equal to mmdet's, in whatever way they are made."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from mmdet.models.task_modules import AnchorGenerator as MMDetAnchorGenerator
from mmdet.structures.bbox import HorizontalBoxes
from torch._subclasses import FakeTensorMode

from focal_retinanet.models import AnchorGenerator

PAPER = dict(
    octave_base_scale=4,
    scales_per_octave=3,
    ratios=[0.5, 1.0, 2.0],
    strides=[8, 16, 32, 64, 128],
)
SIZES = [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]


def test_nine_anchors_per_cell_from_32_to_813_pixels():
    generator = AnchorGenerator(**PAPER)
    assert generator.num_base_priors == [9] * 5
    side = [
        ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])).sqrt()
        for b in generator.base_anchors
    ]
    for level, base in enumerate([32, 64, 128, 256, 512]):
        expected = torch.tensor([base * 2 ** (i / 3) for i in range(3)] * 3)
        torch.testing.assert_close(side[level], expected)
    assert round(side[-1].max().item()) == 813
    first = generator.base_anchors[0]
    ratios = (first[:, 3] - first[:, 1]) / (first[:, 2] - first[:, 0])
    torch.testing.assert_close(ratios, torch.tensor([0.5] * 3 + [1.0] * 3 + [2.0] * 3))


@pytest.mark.parametrize(
    'options',
    [
        PAPER,
        dict(scales=[8], ratios=[1.0], strides=[8, 16, 32, 64, 128]),
        dict(PAPER, strides=[(8, 4), (16, 8), (32, 16), (64, 32), (128, 64)]),
        dict(PAPER, scale_major=False, center_offset=0.5),
    ],
)
@pytest.mark.parametrize(
    'dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64]
)
def test_equals_mmdet(options, dtype):
    ours = AnchorGenerator(**options).grid_priors(SIZES, dtype, 'cpu')
    theirs = MMDetAnchorGenerator(**options).grid_priors(SIZES, dtype, 'cpu')
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == dtype
        assert a.is_contiguous()
        assert torch.equal(a, b)


def test_boxes_of_mmdets_type():
    options = dict(PAPER, use_box_type=True)
    ours = AnchorGenerator(**options).grid_priors(SIZES, device='cpu')
    theirs = MMDetAnchorGenerator(**options).grid_priors(SIZES, device='cpu')
    for a, b in zip(ours, theirs, strict=True):
        assert isinstance(a, HorizontalBoxes)
        assert torch.equal(a.tensor, b.tensor)


def plain():
    return MMDetAnchorGenerator(**PAPER).grid_priors(SIZES, device='cpu')


def assert_plain(grids):
    for a, b in zip(grids, plain(), strict=True):
        assert type(a) is torch.Tensor
        assert torch.equal(a, b)


@pytest.fixture
def generator():
    return AnchorGenerator(**PAPER)


def in_place(generator):
    for grid in generator.grid_priors(SIZES, device='cpu'):
        grid.clamp_(0, 10)


def in_inference_mode(generator):
    with torch.inference_mode():
        assert_plain(generator.grid_priors(SIZES, device='cpu'))


def with_fake_tensors(generator):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        grids = generator.grid_priors(SIZES, device='cpu')
        assert all(grid.fake_mode is mode for grid in grids)
    assert [grid.shape for grid in grids] == [grid.shape for grid in plain()]


def on_meta(generator):
    grids = generator.grid_priors(SIZES, device='meta')
    assert [grid.shape for grid in grids] == [grid.shape for grid in plain()]
    assert all(grid.is_meta for grid in grids)


def with_meta_as_the_default(generator):
    with torch.device('meta'):
        grids = generator.grid_priors(SIZES, device='cpu')
    assert_plain(grids)


def with_float64_as_the_default(generator):
    torch.set_default_dtype(torch.float64)
    try:
        assert_plain(generator.grid_priors(SIZES, device='cpu'))
    finally:
        torch.set_default_dtype(torch.float32)


def under_autocast(generator):
    with torch.autocast('cpu', torch.bfloat16):
        assert_plain(generator.grid_priors(SIZES, device='cpu'))


def in_threads(generator):
    with ThreadPoolExecutor(4) as pool:
        for grids in pool.map(
            lambda _: generator.grid_priors(SIZES, device='cpu'), range(40)
        ):
            assert_plain(grids)


@pytest.mark.parametrize(
    'call',
    [
        in_place,
        in_inference_mode,
        with_fake_tensors,
        on_meta,
        with_meta_as_the_default,
        with_float64_as_the_default,
        under_autocast,
        in_threads,
    ],
)
def test_no_call_changes_a_later_one(generator, call):
    call(generator)
    grids = generator.grid_priors(SIZES, device='cpu')
    assert_plain(grids)
    # Autograd would refuse a tensor from inference mode.
    weight = torch.ones((), requires_grad=True)
    sum((grid * weight).sum() for grid in grids).backward()
    assert weight.grad.isfinite()


@pytest.mark.parametrize(
    'copied', [copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))]
)
def test_copies(generator, copied):
    generator.grid_priors(SIZES, device='cpu')
    size = len(pickle.dumps(generator))
    assert size < len(pickle.dumps(AnchorGenerator(**PAPER))) + 100  # no grid in it
    assert_plain(copied(generator).grid_priors(SIZES, device='cpu'))


class Anchors(torch.nn.Module):
    """The anchors of a feature map, made as a head makes them."""

    def __init__(self):
        super().__init__()
        self.generator = AnchorGenerator(**PAPER)

    def forward(self, maps):
        grid = self.generator.single_level_grid_priors(
            tuple(maps.shape[-2:]), 0, device=maps.device
        )
        return grid + maps.sum()


MAPS, OTHER_MAPS = torch.zeros(1, 2, 7, 11), torch.zeros(1, 2, 5, 9)


def expected(maps):
    return MMDetAnchorGenerator(**PAPER).single_level_grid_priors(
        tuple(maps.shape[-2:]), 0, device='cpu'
    )


def test_traced_for_any_size():
    traced = torch.jit.trace(Anchors(), MAPS)
    for maps in (MAPS, OTHER_MAPS):
        assert torch.equal(traced(maps), expected(maps))


def test_exported_and_compiled():
    module = Anchors()
    program = torch.export.export(module, (MAPS,))
    assert torch.equal(program.module()(MAPS), expected(MAPS))
    assert torch.equal(module(MAPS), expected(MAPS))
    compiled = torch.compile(module, fullgraph=True, backend='eager')
    for maps in (MAPS, OTHER_MAPS):
        assert torch.equal(compiled(maps), expected(maps))
    assert torch.equal(module(MAPS), expected(MAPS))
