"""Advice on anchors for objects of one kind, where the best change is known."""

import torch
from mmdet.models.task_modules import AnchorGenerator, SSDAnchorGenerator

from focal_retinanet.anchors.advice import advise

PAPER = dict(
    octave_base_scale=4,
    scales_per_octave=3,
    ratios=[0.5, 1.0, 2.0],
    strides=[8, 16, 32],
)


def box(x, y, width, height):
    """Return a box from its centre."""
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def advice_for(*gt_boxes, **generator):
    gts = torch.tensor(gt_boxes)
    shapes = torch.tensor([[512, 512]]).expand(len(gts), 2)
    return advise(gts, shapes, AnchorGenerator(**PAPER | generator), 0.5)


GRID = [(x, y) for x in range(100, 400, 16) for y in range(100, 400, 48)]


def test_anchors_that_fit():
    advice = advice_for(*(box(x, y, 64, 64) for x, y in GRID))
    assert (
        advice.text
        == 'The anchors fit: 100.0 % of the objects have one with IoU >= 0.5.'
    )
    assert advice.share == 1
    assert advice.options == []


def test_small_objects_need_smaller_anchors():
    """Objects of 16 pixels have an IoU of 1/4 with the smallest anchors of 32."""
    advice = advice_for(*(box(x // 8 * 8, y // 8 * 8, 16, 16) for x, y in GRID))
    assert advice.share == 0
    assert '100.0 % are smaller than the smallest anchor (32 pixels)' in advice.text
    # 24 x 24 is not enough, 16^2 / 24^2 < 0.5; 16 x 16 is.
    assert 'octave_base_scale=2 (now 4)' in advice.text
    assert 'go from 0.0 % to 100.0 %' in advice.text
    texts = [option.change for option in advice.options]
    assert 'make the images 1.5 times as large in the pipeline' in texts


def test_flat_objects_need_another_ratio():
    """A ratio of 1/3 covers objects of 128 x 25."""
    advice = advice_for(*(box(x // 8 * 8, y // 8 * 8, 128, 25) for x, y in GRID))
    assert '100.0 % are flatter than all anchors (height/width 0.5)' in advice.text
    assert 'ratios=[0.333,0.5,1,2] (now [0.5,1,2])' in advice.text


def test_two_changes_when_one_is_not_enough():
    """No single change covers both small and flat objects."""
    cells = [(x // 8 * 8, y // 8 * 8) for x, y in GRID]
    advice = advice_for(
        *(box(x, y, 12, 12) for x, y in cells), *(box(x, y, 128, 25) for x, y in cells)
    )
    assert ' and set ' in advice.text or ' and make ' in advice.text
    assert 'to 100.0 %' in advice.text


def test_objects_cut_by_the_border():
    """A quarter of the objects are slivers at the left border, and the others fit."""
    inside = [box(x, y, 64, 64) for x, y in GRID[:9]]
    slivers = [[0.0, y, 3.0, y + 30.0] for y in (10, 100, 300)]
    gts = torch.tensor([*inside, *slivers])
    shapes = torch.tensor([[512, 512]]).expand(len(gts), 2)
    advice = advise(
        gts, shapes, AnchorGenerator(**PAPER), 0.5, at_border=gts[:, 0] == 0
    )
    assert advice.share == 0.75
    expected = (
        '100.0 % of them reach the border of the image, of the others 100.0 % are'
    )
    assert expected in advice.text


def test_one_scale_of_a_generator_without_octaves():
    advice = advice_for(
        *(box(x // 8 * 8, y // 8 * 8, 16, 16) for x, y in GRID),
        octave_base_scale=None,
        scales_per_octave=None,
        scales=[4],
    )
    assert '.scales=[2] (now [4])' in advice.text


def test_ssds_generator():
    generator = SSDAnchorGenerator(
        strides=[8, 16],
        ratios=[[2], [2, 3]],
        min_sizes=[40, 80],
        max_sizes=[80, 120],
        input_size=300,
    )
    gts = torch.tensor([box(x // 8 * 8 + 4, y // 8 * 8 + 4, 20, 20) for x, y in GRID])
    shapes = torch.tensor([[512, 512]]).expand(len(gts), 2)
    advice = advise(gts, shapes, generator, 0.5)
    assert 'make all anchors of model.bbox_head.anchor_generator 0.5' in advice.text


def test_no_objects():
    advice = advise(torch.zeros(0, 4), torch.zeros(0, 2), AnchorGenerator(**PAPER), 0.5)
    assert advice.text == 'There is no object to fit anchors to.'
