"""Matching in plain PyTorch, on any device and in any type: the definition."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

#: What matching says of an anchor that takes no part in training.
IGNORED = -1
#: ... and of an anchor that belongs to the background. Object i is i + 1.
UNMATCHED = 0

# The most IoUs that are held at a time: memory does not grow with the number of
# objects.
_TILE = 2**24

IouFunction = Callable[[Tensor, Tensor], Tensor]


def pairwise_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of every box of one set with every box of another.

    Args:
        boxes1: (..., M, 4) floating, xyxy, absolute pixels.
        boxes2: (N, 4), likewise.

    Returns:
        (..., M, N). 0 where both boxes are degenerate.
    """
    left1, top1, right1, bottom1 = boxes1[..., None].unbind(-2)  # (..., M, 1) each
    left2, top2, right2, bottom2 = boxes2.unbind(-1)  # (N,) each
    area1 = (right1 - left1) * (bottom1 - top1)
    area2 = (right2 - left2) * (bottom2 - top2)
    width = torch.min(right1, right2).sub_(torch.max(left1, left2)).clamp_(min=0)
    height = torch.min(bottom1, bottom2).sub_(torch.max(top1, top2)).clamp_(min=0)
    intersection = width.mul_(height)
    union = (area1 + area2).sub_(intersection).clamp_(min=1e-6)
    return intersection.div_(union)


def match(
    anchors: Tensor,
    gt_bboxes: Sequence[Tensor],
    pos_iou_thr: float,
    neg_iou_thr: tuple[float, float],
    min_pos_iou: float,
    match_low_quality: bool,
    gt_max_assign_all: bool,
    excluded: Tensor | None,
    iou_fn: IouFunction | None = None,
) -> tuple[Tensor, Tensor]:
    """As :func:`focal_retinanet.ops.matching.match_max_iou_batch`."""
    counts = [len(gts) for gts in gt_bboxes]
    shape = (len(counts), len(anchors))
    if excluded is not None:
        excluded = excluded.to(anchors.device, torch.bool)
    if sum(counts) and len(anchors):
        ious = _Ious(anchors, gt_bboxes, excluded, iou_fn)
        max_ious, best_gt, best_of_gt = _find_best(ious)
        low, high = neg_iou_thr
        is_background = (max_ious >= low) & (max_ious < high)
        matched = torch.where(is_background, UNMATCHED, IGNORED)
        matched = torch.where(max_ious >= pos_iou_thr, best_gt + 1, matched)
        if match_low_quality:
            claimed_by = _claim(ious, *best_of_gt, min_pos_iou, gt_max_assign_all)
            matched = torch.where(claimed_by >= 0, claimed_by + 1, matched)
        for b, count in enumerate(counts):
            if not count:  # all is background, whatever the thresholds
                matched[b] = UNMATCHED
    else:
        matched = torch.full(shape, UNMATCHED, dtype=torch.int64, device=anchors.device)
        max_ious = anchors.new_zeros(shape)
    if excluded is not None:
        matched = matched.masked_fill(excluded, IGNORED)
        max_ious = max_ious.masked_fill(excluded, -1)
    return matched, max_ious


class _Part(NamedTuple):
    """The objects of one image that are in a tile."""

    image: int
    start: int  # among all images' objects
    rows: slice  # of the tile


class _Tile(NamedTuple):
    """Objects start .. stop of all images', in parts of one image each."""

    start: int
    stop: int
    parts: list[_Part]


class _Ious:
    """IoUs of all images' objects with all anchors, a tile (T, N) at a time."""

    def __init__(
        self,
        anchors: Tensor,
        gt_bboxes: Sequence[Tensor],
        excluded: Tensor | None,
        iou_fn: IouFunction | None,
    ):
        self.anchors = anchors
        self.gts = torch.cat([gts.to(anchors) for gts in gt_bboxes])
        self.batch = len(gt_bboxes)
        self.excluded = excluded
        self.iou_fn = iou_fn or pairwise_iou
        # Of a user's function we know only what it says of one image's objects.
        self.tiles = _divide(
            [len(gts) for gts in gt_bboxes],
            size=max(1, _TILE // len(anchors)),
            mix_images=iou_fn is None,
        )

    def compute(self, tile: _Tile) -> Tensor:
        ious = self.iou_fn(self.gts[tile.start : tile.stop], self.anchors)
        if self.excluded is None:
            return ious
        excluded = [
            self.excluded[part.image].expand(part.rows.stop - part.rows.start, -1)
            for part in tile.parts
        ]
        return ious.masked_fill(torch.cat(excluded), -1)


def _divide(counts: Sequence[int], size: int, mix_images: bool) -> list[_Tile]:
    """Tiles of at most ``size`` objects, in order; no tile has a gap."""
    tiles = []
    stop = 0
    for image, count in enumerate(counts):
        start, stop = stop, stop + count
        while start < stop:
            room = size - (tiles[-1].stop - tiles[-1].start) if tiles else 0
            if room == 0 or (not mix_images and tiles[-1].parts[0].image != image):
                tiles.append(_Tile(start, start, []))
                room = size
            tile = tiles[-1]
            taken = min(room, stop - start)
            first = start - tile.start
            tile.parts.append(_Part(image, start, slice(first, first + taken)))
            start += taken
            tiles[-1] = tile._replace(stop=start)
    return tiles


def _find_best(ious: _Ious) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Highest IoUs.

    Returns:
        - (B, N) of each anchor; 0 without objects.
        - (B, N) the first object that has it, counted through all images.
        - (M,) of each object, and (M,) the first anchor that has it.
    """
    best = {}
    best_of_gt = []
    for tile in ious.tiles:
        of_tile = ious.compute(tile)
        best_of_gt.append(of_tile.max(dim=1))
        for image, start, rows in tile.parts:
            max_iou, gt = of_tile[rows].max(dim=0)
            gt = gt + start
            if image in best:  # by an earlier tile; on a tie the earlier object stays
                before, gt_before = best[image]
                gt = torch.where(max_iou > before, gt, gt_before)
                max_iou = torch.maximum(max_iou, before)
            best[image] = max_iou, gt
    nothing = torch.zeros_like(max_iou), torch.zeros_like(gt)
    max_ious, gts = zip(*(best.get(b, nothing) for b in range(ious.batch)), strict=True)
    gt_max_ious, anchors = zip(*best_of_gt, strict=True)
    return (
        torch.stack(max_ious),
        torch.stack(gts),
        (
            torch.cat(gt_max_ious),
            torch.cat(anchors),
        ),
    )


def _claim(
    ious: _Ious,
    gt_max_iou: Tensor,
    first_anchor: Tensor,
    min_pos_iou: float,
    assign_all: bool,
) -> Tensor:
    """The last object that an anchor is the best of, (B, N) int64, or -1."""
    # An object that nothing overlaps has IoU 0 with every anchor; it must not
    # claim them all (mmdetection issues 6821 and 8289).
    claims = (gt_max_iou >= min_pos_iou) & (gt_max_iou > 0)
    index = torch.arange(len(claims), dtype=torch.int64, device=claims.device)
    claimant = torch.where(claims, index, -1)
    shape = (ious.batch, len(ious.anchors))
    claimed_by = torch.full(shape, -1, dtype=torch.int64, device=claims.device)
    for tile in ious.tiles:
        if assign_all:
            of_tile = slice(tile.start, tile.stop)
            is_best = ious.compute(tile) == gt_max_iou[of_tile, None]
        for image, start, rows in tile.parts:
            of_part = slice(start, start + rows.stop - rows.start)
            before = claimed_by[image]
            if assign_all:
                claim = torch.where(is_best[rows], claimant[of_part, None], -1)
                after = torch.maximum(before, claim.amax(dim=0))
            else:
                anchor, gt = first_anchor[of_part], claimant[of_part]
                after = before.scatter_reduce(0, anchor, gt, 'amax')
            claimed_by[image] = after
    return claimed_by
