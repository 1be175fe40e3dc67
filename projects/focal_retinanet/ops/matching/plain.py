"""Matching in plain PyTorch, on any device and in any dtype: the definition."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from focal_retinanet.ops.matching.rule import MatchingRule

#: Result for an anchor that takes no part in training.
IGNORED = -1
#: Result for an anchor of the background. Object i is i + 1.
UNMATCHED = 0

# Most IoUs in memory at a time, so that memory does not grow with the objects.
_TILE = 2**24

IouFunction = Callable[[Tensor, Tensor], Tensor]
# Parts (image, start, stop) of images, with objects counted over all images.
Tile = list[tuple[int, int, int]]


def pairwise_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Return the IoU of each pair of boxes of two sets.

    Args:
        boxes1: Boxes (..., M, 4), floating, xyxy, absolute pixels.
        boxes2: Boxes (N, 4), likewise.

    Returns:
        IoU (..., M, N), fp32 for fp16 and bf16 boxes, whose areas fp16 cannot hold; 0
        if both boxes are degenerate.
    """
    boxes1, boxes2 = as_wide(boxes1), as_wide(boxes2)
    left1, top1, right1, bottom1 = boxes1[..., None].unbind(-2)  # (..., M, 1) each
    left2, top2, right2, bottom2 = boxes2.unbind(-1)  # (N,) each
    area1 = (right1 - left1) * (bottom1 - top1)
    area2 = (right2 - left2) * (bottom2 - top2)
    width = torch.min(right1, right2).sub_(torch.max(left1, left2)).clamp_(min=0)
    height = torch.min(bottom1, bottom2).sub_(torch.max(top1, top2)).clamp_(min=0)
    intersection = width.mul_(height)
    union = (area1 + area2).sub_(intersection).clamp_(min=1e-6)
    return intersection.div_(union)


def as_wide(boxes: Tensor) -> Tensor:
    """Return boxes of 16 bits in fp32, and others as they are."""
    return boxes.float() if boxes.dtype in (torch.float16, torch.bfloat16) else boxes


def is_available(anchors: Tensor, *others: Tensor | None) -> bool:
    """Plain PyTorch takes all boxes."""
    return True


def match(
    anchors: Tensor,
    gt_bboxes: Sequence[Tensor],
    rule: MatchingRule,
    excluded: Tensor | None,
    iou_fn: IouFunction | None = None,
) -> tuple[Tensor, Tensor]:
    """Match by tiles of the IoU matrix.

    See :func:`focal_retinanet.ops.matching.max_iou.match_max_iou_batch`.
    """
    counts = [len(gts) for gts in gt_bboxes]
    shape = (len(counts), len(anchors))
    if excluded is not None:
        excluded = excluded.to(anchors.device, torch.bool)
    if sum(counts) and len(anchors):
        gts = torch.cat([gts.to(anchors) for gts in gt_bboxes])
        # A user's function may depend on all objects that it is given: one image's.
        mix_images = iou_fn is None
        tiles = _divide(counts, max(1, _TILE // len(anchors)), mix_images)

        def compute_ious(tile: Tile) -> Tensor:
            return _compute_ious(tile, gts, anchors, excluded, iou_fn or pairwise_iou)

        max_ious, best_gt, best_of_gt = _find_best(tiles, len(counts), compute_ious)
        low, high = rule.neg_iou_thr
        is_background = (max_ious >= low) & (max_ious < high)
        matched = torch.where(is_background, UNMATCHED, IGNORED)
        matched = torch.where(max_ious >= rule.pos_iou_thr, best_gt + 1, matched)
        if rule.match_low_quality:
            claimed_by = _claim(tiles, compute_ious, *best_of_gt, rule, shape)
            matched = torch.where(claimed_by >= 0, claimed_by + 1, matched)
        for b, count in enumerate(counts):
            if not count:  # an image without objects is background
                matched[b] = UNMATCHED
    else:
        matched = torch.full(shape, UNMATCHED, dtype=torch.int64, device=anchors.device)
        max_ious = anchors.new_zeros(shape)
    if excluded is not None:
        matched = matched.masked_fill(excluded, IGNORED)
        max_ious = max_ious.masked_fill(excluded, -1)
    return matched, max_ious


def _divide(counts: Sequence[int], size: int, mix_images: bool) -> list[Tile]:
    """Divide the objects into consecutive tiles of at most ``size`` objects."""
    tiles = []
    stop = room = 0
    for image, count in enumerate(counts):
        start, stop = stop, stop + count
        if not mix_images:
            room = 0
        while start < stop:
            if room == 0:
                tiles.append([])
                room = size
            taken = min(room, stop - start)
            tiles[-1].append((image, start, start + taken))
            start += taken
            room -= taken
    return tiles


def _compute_ious(
    tile: Tile,
    gts: Tensor,
    anchors: Tensor,
    excluded: Tensor | None,
    iou_fn: IouFunction,
) -> Tensor:
    """Return IoUs (T, N) of a tile's T objects with all anchors, -1 if excluded."""
    ious = iou_fn(gts[tile[0][1] : tile[-1][2]], anchors)
    if excluded is None:
        return ious
    rows = [excluded[image].expand(stop - start, -1) for image, start, stop in tile]
    return ious.masked_fill(torch.cat(rows), -1)


def _find_best(
    tiles: Sequence[Tile], batch: int, compute_ious: Callable[[Tile], Tensor]
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Find the highest IoUs.

    Returns:
        - Highest IoU (B, N) of each anchor; 0 without objects.
        - First object (B, N) with this IoU, counted over all images.
        - Highest IoU (M,) of each object, and the first anchor (M,) with it.
    """
    best = {}
    gt_max_ious, gt_best_anchors = [], []
    for tile in tiles:
        ious = compute_ious(tile)
        gt_max_iou, anchor = ious.max(dim=1)
        gt_max_ious.append(gt_max_iou)
        gt_best_anchors.append(anchor)
        first = tile[0][1]
        for image, start, stop in tile:
            max_iou, gt = ious[start - first : stop - first].max(dim=0)
            gt = gt + start
            if image in best:  # of an earlier tile, whose object wins ties
                before, gt_before = best[image]
                gt = torch.where(max_iou > before, gt, gt_before)
                max_iou = torch.maximum(max_iou, before)
            best[image] = max_iou, gt
    nothing = torch.zeros_like(max_iou), torch.zeros_like(gt)
    of_images = [best.get(image, nothing) for image in range(batch)]
    return (
        torch.stack([max_iou for max_iou, _ in of_images]),
        torch.stack([gt for _, gt in of_images]),
        (torch.cat(gt_max_ious), torch.cat(gt_best_anchors)),
    )


def _claim(
    tiles: Sequence[Tile],
    compute_ious: Callable[[Tile], Tensor],
    gt_max_iou: Tensor,
    gt_best_anchor: Tensor,
    rule: MatchingRule,
    shape: tuple[int, int],
) -> Tensor:
    """Return the last object (B, N) of which an anchor is the best, int64, or -1."""
    # An object without any overlap has IoU 0 with all anchors and must not claim them
    # (mmdetection issues 6821 and 8289).
    claims = (gt_max_iou >= rule.min_pos_iou) & (gt_max_iou > 0)
    index = torch.arange(len(claims), dtype=torch.int64, device=claims.device)
    claimant = torch.where(claims, index, -1)  # (M,)
    claimed_by = torch.full(shape, -1, dtype=torch.int64, device=claims.device)
    for tile in tiles:
        first = tile[0][1]
        if rule.gt_max_assign_all:
            is_best = compute_ious(tile) == gt_max_iou[first : tile[-1][2], None]
        for image, start, stop in tile:
            gt, before = claimant[start:stop], claimed_by[image]
            if rule.gt_max_assign_all:
                claim = torch.where(
                    is_best[start - first : stop - first], gt[:, None], -1
                )
                after = torch.maximum(before, claim.amax(dim=0))
            else:
                after = before.scatter_reduce(0, gt_best_anchor[start:stop], gt, 'amax')
            claimed_by[image] = after
    return claimed_by
