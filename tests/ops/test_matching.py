"""Matching by numbers that one can check by hand."""

import torch

from focal_retinanet.ops import IGNORED, UNMATCHED, match_max_iou, pairwise_iou

OBJECT = torch.tensor([[0.0, 0.0, 10.0, 10.0]])


def anchors_with_iou(*ious):
    """Anchors inside of OBJECT whose IoU with it is their share of its area."""
    return torch.tensor([[0.0, 0.0, 10.0, 10.0 * iou] for iou in ious])


def test_thresholds():
    anchors = anchors_with_iou(0.9, 0.5, 0.49, 0.4, 0.39, 0.1)
    matched, ious = match_max_iou(anchors, OBJECT, match_low_quality=False)
    assert matched.tolist() == [1, 1, IGNORED, IGNORED, UNMATCHED, UNMATCHED]
    torch.testing.assert_close(ious, torch.tensor([0.9, 0.5, 0.49, 0.4, 0.39, 0.1]))


def test_low_quality_match_takes_the_best_anchor_and_all_that_tie():
    anchors = anchors_with_iou(0.3, 0.1, 0.3)
    assert match_max_iou(anchors, OBJECT)[0].tolist() == [1, UNMATCHED, 1]
    first_only = match_max_iou(anchors, OBJECT, gt_max_assign_all=False)[0]
    assert first_only.tolist() == [1, UNMATCHED, UNMATCHED]
    too_low = match_max_iou(anchors, OBJECT, min_pos_iou=0.35)[0]
    assert too_low.tolist() == [UNMATCHED] * 3


def test_later_object_wins_a_contested_low_quality_match():
    objects = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 9]])
    anchors = torch.tensor([[0.0, 0, 10, 10]])  # IoU 1.0 and 0.9
    assert match_max_iou(anchors, objects, match_low_quality=False)[0].tolist() == [1]
    assert match_max_iou(anchors, objects)[0].tolist() == [2]


def test_object_without_overlap_gets_no_anchor():
    anchors = anchors_with_iou(0.9, 0.2)
    far_and_flat = torch.tensor([[500.0, 500, 510, 510], [3.0, 3, 3, 3]])
    matched, ious = match_max_iou(anchors, far_and_flat)
    assert matched.tolist() == [UNMATCHED, UNMATCHED]
    assert ious.tolist() == [0, 0]


def test_no_objects_is_all_background():
    matched, ious = match_max_iou(anchors_with_iou(0.9, 0.2), OBJECT[:0])
    assert matched.tolist() == [UNMATCHED, UNMATCHED]
    assert ious.tolist() == [0, 0]
    assert match_max_iou(OBJECT[:0], OBJECT)[0].shape == (0,)


def test_excluded_anchors_are_ignored_and_claimed_by_nobody():
    anchors = anchors_with_iou(0.9, 0.3, 0.2)
    excluded = torch.tensor([True, False, False])
    assert match_max_iou(anchors, OBJECT, excluded=excluded)[0].tolist() == [-1, 1, 0]
    without_objects = match_max_iou(anchors, OBJECT[:0], excluded=excluded)[0]
    assert without_objects.tolist() == [-1, 0, 0]


def test_more_objects_than_a_tile():
    torch.manual_seed(0)
    corner = torch.rand(300, 2) * 100
    objects = torch.cat([corner, corner + 1 + torch.rand(300, 2) * 20], 1)
    matched, ious = match_max_iou(objects, objects, match_low_quality=False)
    assert matched.tolist() == list(range(1, 301))
    torch.testing.assert_close(ious, torch.ones(300))


def test_pairwise_iou_of_degenerate_boxes_is_zero():
    point = torch.tensor([[3.0, 3, 3, 3]])
    assert pairwise_iou(point, point).item() == 0
