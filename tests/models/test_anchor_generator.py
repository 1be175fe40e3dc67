"""Anchors of section 4, and that remembering them changes nothing."""

import pytest
import torch
from mmdet.models.task_modules import AnchorGenerator as MMDetAnchorGenerator

from focal_retinanet.models import AnchorGenerator, anchor_generator

PAPER = dict(
    octave_base_scale=4,
    scales_per_octave=3,
    ratios=[0.5, 1.0, 2.0],
    strides=[8, 16, 32, 64, 128],
)
SIZES = [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]


def test_nine_anchors_a_cell_from_32_to_813_pixels():
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
def test_equals_mmdet(options):
    ours = AnchorGenerator(**options).grid_priors(SIZES, device='cpu')
    theirs = MMDetAnchorGenerator(**options).grid_priors(SIZES, device='cpu')
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


def test_grids_are_made_once_per_size_and_dtype():
    generator = AnchorGenerator(**PAPER)
    first = generator.grid_priors(SIZES, device='cpu')
    again = generator.grid_priors([list(size) for size in SIZES], device='cpu')
    assert all(a is b for a, b in zip(first, again, strict=True))
    half = generator.grid_priors(SIZES, dtype=torch.float16, device='cpu')
    assert half[0].dtype == torch.float16
    assert len(generator.grid_priors([(2, 2)] * 5, device='cpu')[0]) == 36


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(anchor_generator, '_CACHE_SIZE', 6)
    generator = AnchorGenerator(**PAPER)
    for height in range(1, 20):
        generator.grid_priors([(height, 3)] * 5, device='cpu')
    assert len(generator._grids) == 6
