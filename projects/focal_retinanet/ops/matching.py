"""Max-IoU matching of anchors to objects (section 4, "Anchors").

An anchor is given to the object that it overlaps most when that IoU is at
least ``pos_iou_thr``, is background when it is below ``neg_iou_thr``, and is
ignored in between. Low-quality matches, RPN's rule that Detectron keeps for
RetinaNet, also give each object the anchors that overlap it most.
"""

from collections.abc import Callable

import torch
from torch import Tensor

#: What :func:`match_max_iou` says of an anchor that takes no part in training.
IGNORED = -1
#: ... and of an anchor that belongs to the background. Object i is i + 1.
UNMATCHED = 0

# Objects are compared with all anchors in tiles of this many, so that memory
# does not grow with the number of objects.
_TILE = 64


def pairwise_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of every box of one set with every box of another.

    Args:
        boxes1: (M, 4) floating, xyxy, absolute pixels.
        boxes2: (N, 4), likewise.

    Returns:
        (M, N). 0 where both boxes are degenerate.
    """
    area1 = (boxes1[:, 2] - boxes1[:, 0]) * (boxes1[:, 3] - boxes1[:, 1])
    area2 = (boxes2[:, 2] - boxes2[:, 0]) * (boxes2[:, 3] - boxes2[:, 1])
    top_left = torch.max(boxes1[:, None, :2], boxes2[None, :, :2])
    bottom_right = torch.min(boxes1[:, None, 2:], boxes2[None, :, 2:])
    width, height = (bottom_right - top_left).clamp(min=0).unbind(-1)  # (M, N) each
    intersection = width * height
    union = area1[:, None] + area2[None, :] - intersection
    return intersection / union.clamp(min=1e-6)


def match_max_iou(
    anchors: Tensor,
    gt_bboxes: Tensor,
    pos_iou_thr: float = 0.5,
    neg_iou_thr: tuple[float, float] = (0.0, 0.4),
    min_pos_iou: float = 0.0,
    match_low_quality: bool = True,
    gt_max_assign_all: bool = True,
    excluded: Tensor | None = None,
    iou_fn: Callable[[Tensor, Tensor], Tensor] = pairwise_iou,
) -> tuple[Tensor, Tensor]:
    """Match N anchors with M objects of one image.

    Args:
        anchors: (N, 4) floating, xyxy, absolute pixels.
        gt_bboxes: (M, 4), likewise; M may be 0.
        pos_iou_thr: lowest IoU of a positive.
        neg_iou_thr: [low, high): the IoU of the background.
        min_pos_iou: lowest IoU of a low-quality match. One without any overlap
            is never made, whatever this says.
        match_low_quality: give each object the anchors that overlap it most,
            also where they are below ``pos_iou_thr`` or overlap another object
            more. Where two objects claim an anchor, the later object has it.
        gt_max_assign_all: all anchors that tie for an object's highest IoU,
            or only the first.
        excluded: (N,) bool, anchors that match nothing and are ignored.
        iou_fn: maps (M, 4) and (N, 4) to (M, N).

    Returns:
        - (N,) int64: 0 background, -1 ignored, i + 1 for object i.
        - (N,) highest IoU of each anchor; 0 without objects, -1 if excluded.
    """
    num_anchors, num_gts = anchors.size(0), gt_bboxes.size(0)
    matched = anchors.new_full((num_anchors,), IGNORED, dtype=torch.int64)
    max_ious = anchors.new_zeros(num_anchors)
    if num_gts == 0 or num_anchors == 0:
        matched.fill_(UNMATCHED)
        if excluded is not None:
            matched.masked_fill_(excluded, IGNORED)
            max_ious.masked_fill_(excluded, -1)
        return matched, max_ious

    def tiles():
        for start in range(0, num_gts, _TILE):
            ious = iou_fn(gt_bboxes[start : start + _TILE], anchors)
            if excluded is not None:
                ious = ious.masked_fill(excluded, -1)
            yield start, ious

    max_ious.fill_(-torch.inf)
    best_gt = torch.zeros_like(matched)
    gt_max_ious, gt_best_anchor = [], []
    for start, ious in tiles():
        tile_max, tile_best = ious.max(dim=0)
        better = tile_max > max_ious  # on a tie the earlier object stays
        max_ious = torch.where(better, tile_max, max_ious)
        best_gt = torch.where(better, tile_best + start, best_gt)
        gt_max, gt_best = ious.max(dim=1)
        gt_max_ious.append(gt_max)
        gt_best_anchor.append(gt_best)

    low, high = neg_iou_thr
    matched[(max_ious >= low) & (max_ious < high)] = UNMATCHED
    matched = torch.where(max_ious >= pos_iou_thr, best_gt + 1, matched)

    if match_low_quality:
        gt_max_iou = torch.cat(gt_max_ious)
        # An object that nothing overlaps has IoU 0 with every anchor; it must
        # not claim them all (mmdetection issues 6821 and 8289).
        claims = (gt_max_iou >= min_pos_iou) & (gt_max_iou > 0)
        claimed_by = torch.full_like(matched, -1)
        if gt_max_assign_all:
            for start, ious in tiles():
                stop = start + ious.size(0)
                is_best = ious == gt_max_iou[start:stop, None]
                is_best &= claims[start:stop, None]
                gt_index = torch.arange(start, stop, device=matched.device)
                tile_claim = torch.where(is_best, gt_index[:, None], -1).amax(dim=0)
                claimed_by = torch.maximum(claimed_by, tile_claim)
        else:
            gt_index = torch.arange(num_gts, device=matched.device)
            claimed_by = claimed_by.scatter_reduce(
                0, torch.cat(gt_best_anchor), torch.where(claims, gt_index, -1), 'amax'
            )
        matched = torch.where(claimed_by >= 0, claimed_by + 1, matched)
    return matched, max_ious
