"""Grouped suppression against its definition and mmcv's operator."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import batched_nms, nms

from focal_retinanet.ops.nms import native as nms_native
from focal_retinanet.ops.nms.native import grouped_nms

if not nms_native.is_available(torch.zeros(1, 4)):
    pytest.skip('needs a C++ compiler', allow_module_level=True)
ALL = 10**6


def random_boxes(count, on_a_grid=False):
    """Return boxes that overlap a lot; on a grid, some are equal or without area."""
    if on_a_grid:
        corner = torch.randint(0, 6, (count, 2))
        extent = torch.randint(0, 5, (count, 2))
    else:
        corner, extent = torch.rand(count, 2) * 60, torch.rand(count, 2) * 50
    return torch.cat([corner, corner + extent], 1).float()


def greedy(boxes, scores, threshold):
    """Keep the best remaining box and drop those that overlap it, until none is left."""
    left, top, right, bottom = boxes.unbind(1)
    area = (right - left) * (bottom - top)
    remaining = scores.argsort(descending=True, stable=True)
    kept = []
    while len(remaining):
        best, remaining = remaining[0], remaining[1:]
        kept.append(best.item())
        width = torch.minimum(right[best], right[remaining])
        width = (width - torch.maximum(left[best], left[remaining])).clamp(min=0)
        height = torch.minimum(bottom[best], bottom[remaining])
        height = (height - torch.maximum(top[best], top[remaining])).clamp(min=0)
        intersection = width * height
        iou = intersection / (area[best] + area[remaining] - intersection)
        remaining = remaining[~(iou > threshold)]  # 0 / 0 stays
    return kept


def by_mmcv(boxes, scores, threshold):
    return nms(boxes, scores, threshold)[1].tolist()


def group_by_group(suppress, boxes, scores, groups, threshold):
    """Return the indices that stay, as a set."""
    kept = set()
    for group in groups.unique():
        members = (groups == group).nonzero()[:, 0]
        keep = suppress(boxes[members], scores[members], threshold)
        kept |= set(members[keep].tolist())
    return kept


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    count=st.sampled_from([0, 1, 2, 30, 300]),
    num_groups=st.sampled_from([1, 3, 50]),
    threshold=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    on_a_grid=st.booleans(),
    scores_tie=st.booleans(),
)
def test_equals_the_definition_and_mmcv(
    seed, count, num_groups, threshold, on_a_grid, scores_tie
):
    torch.manual_seed(seed)
    boxes = random_boxes(count, on_a_grid)
    scores = torch.randperm(count) / (count + 1)
    if scores_tie:
        scores = (scores * 8).round() / 8
    groups = torch.randint(num_groups, (count,))
    keep = grouped_nms(boxes, scores, groups, threshold, ALL)
    problem = (boxes, scores, groups, threshold)
    assert set(keep.tolist()) == group_by_group(greedy, *problem)
    if not scores_tie:  # mmcv orders ties arbitrarily
        assert set(keep.tolist()) == group_by_group(by_mmcv, *problem)
    assert torch.equal(scores[keep], scores[keep].sort(descending=True).values)


@pytest.mark.parametrize('class_agnostic', [False, True])
def test_equals_mmcvs_batched_nms(class_agnostic):
    torch.manual_seed(0)
    # Whole pixels, because mmcv loses digits when it shifts the boxes of a class.
    boxes = random_boxes(2000).round()
    scores = torch.randperm(2000) / 2000
    labels = torch.randint(5, (2000,))
    cfg = dict(type='nms', iou_threshold=0.5, class_agnostic=class_agnostic)
    _, expected = batched_nms(boxes, scores, labels, cfg)
    groups = torch.zeros_like(labels) if class_agnostic else labels
    assert torch.equal(grouped_nms(boxes, scores, groups, 0.5, ALL), expected)


def test_limit_keeps_the_best_of_each_group():
    torch.manual_seed(0)
    boxes, scores = random_boxes(400), torch.rand(400)
    groups = torch.randint(3, (400,)) * 1000  # numbers may have gaps
    everything = grouped_nms(boxes, scores, groups, 0.5, ALL)
    limited = grouped_nms(boxes, scores, groups, 0.5, 5)
    for group in groups.unique():
        best = everything[groups[everything] == group][:5]
        assert torch.equal(limited[groups[limited] == group], best)


def test_groups_do_not_see_each_other():
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(4, 1)
    scores = torch.tensor([0.5, 0.9, 0.7, 0.7])
    keep = grouped_nms(boxes, scores, torch.tensor([0, 0, 7, 7]), 0.5, ALL)
    assert keep.tolist() == [1, 2]


def test_boxes_of_any_strides_and_any_number_of_threads(number_of_threads):
    torch.manual_seed(0)
    boxes, scores = random_boxes(500), torch.rand(500)
    groups = torch.randint(9, (500,))
    expected = grouped_nms(boxes, scores, groups, 0.5, ALL)
    strided = boxes.t().contiguous().t()
    for threads in (1, 2, 5):
        number_of_threads(threads)
        keep = grouped_nms(strided, scores, groups, 0.5, ALL)
        assert torch.equal(keep, expected)


def test_takes_fp32_only():
    assert not nms_native.is_available(torch.zeros(1, 4).double())
    assert not nms_native.is_available(torch.zeros(1, 4).half())
