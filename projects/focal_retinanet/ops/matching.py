"""Max-IoU matching of anchors to objects (section 4, "Anchors").

An anchor is given to the object that it overlaps most when that IoU is at
least ``pos_iou_thr``, is background when it is below ``neg_iou_thr``, and is
ignored in between. Low-quality matches, RPN's rule that Detectron keeps for
RetinaNet, also give each object the anchors that overlap it most.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from focal_retinanet.ops import matching_native

#: What :func:`match_max_iou` says of an anchor that takes no part in training.
IGNORED = -1
#: ... and of an anchor that belongs to the background. Object i is i + 1.
UNMATCHED = 0

# The most IoUs that the plain version holds at a time: memory does not grow with
# the number of objects.
_TILE = 2**24


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


def match_max_iou(
    anchors: Tensor,
    gt_bboxes: Tensor,
    pos_iou_thr: float = 0.5,
    neg_iou_thr: tuple[float, float] = (0.0, 0.4),
    min_pos_iou: float = 0.0,
    match_low_quality: bool = True,
    gt_max_assign_all: bool = True,
    excluded: Tensor | None = None,
    iou_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Match N anchors with the M objects of one image.

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
        iou_fn: maps (M, 4) and (N, 4) to (M, N), in place of the IoU.

    Returns:
        - (N,) int64: 0 background, -1 ignored, i + 1 for object i.
        - (N,) highest IoU of each anchor; 0 without objects, -1 if excluded.
    """
    matched, max_ious = match_max_iou_batch(
        anchors,
        [gt_bboxes],
        pos_iou_thr,
        neg_iou_thr,
        min_pos_iou,
        match_low_quality,
        gt_max_assign_all,
        None if excluded is None else excluded[None],
        iou_fn,
    )
    return matched[0], max_ious[0]


def match_max_iou_batch(
    anchors: Tensor,
    gt_bboxes: Sequence[Tensor],
    pos_iou_thr: float = 0.5,
    neg_iou_thr: tuple[float, float] = (0.0, 0.4),
    min_pos_iou: float = 0.0,
    match_low_quality: bool = True,
    gt_max_assign_all: bool = True,
    excluded: Tensor | None = None,
    iou_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Match the same N anchors with the objects of each of B images.

    On a CPU a compiled kernel visits only anchors near an object, in memory
    of O(anchors + objects); elsewhere, and with an ``iou_fn``, tiles of the
    IoU matrix are made one after the other. On a GPU the host never waits.

    Args:
        anchors: (N, 4) floating, xyxy, absolute pixels.
        gt_bboxes: (M_b, 4) for each image, likewise; M_b may be 0.
        excluded: (B, N) bool, anchors that match nothing and are ignored.
        others: as of :func:`match_max_iou`.

    Returns:
        - (B, N) int64: 0 background, -1 ignored, i + 1 for object i, counted
          through all images' objects one after the other.
        - (B, N) highest IoU of each anchor; 0 without objects, -1 if excluded.
    """
    settings = (
        pos_iou_thr,
        neg_iou_thr,
        min_pos_iou,
        match_low_quality,
        gt_max_assign_all,
    )
    if iou_fn is None and matching_native.is_available(anchors):
        return matching_native.match(anchors, gt_bboxes, *settings, excluded)
    if iou_fn is None:
        return _match_in_tiles(anchors, gt_bboxes, *settings, excluded, pairwise_iou)

    matched, max_ious, offset = [], [], 0
    for b, gts in enumerate(gt_bboxes):  # one's own iou_fn takes one image
        of_image, ious = _match_in_tiles(
            anchors,
            [gts],
            *settings,
            None if excluded is None else excluded[b : b + 1],
            lambda gts, anchors: iou_fn(gts[0], anchors)[None],
        )
        matched.append(torch.where(of_image > 0, of_image + offset, of_image))
        max_ious.append(ious)
        offset += len(gts)
    return torch.cat(matched), torch.cat(max_ious)


def _match_in_tiles(
    anchors: Tensor,
    gt_bboxes: Sequence[Tensor],
    pos_iou_thr: float,
    neg_iou_thr: tuple[float, float],
    min_pos_iou: float,
    match_low_quality: bool,
    gt_max_assign_all: bool,
    excluded: Tensor | None,
    iou_fn: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """As :func:`match_max_iou_batch`; ``iou_fn`` maps (B, T, 4) to (B, T, N)."""
    batch, num_anchors, device = len(gt_bboxes), len(anchors), anchors.device
    counts = [len(gts) for gts in gt_bboxes]
    most = max(counts)
    matched = torch.full((batch, num_anchors), UNMATCHED, device=device)
    max_ious = anchors.new_zeros(batch, num_anchors)
    if most == 0 or num_anchors == 0:
        if excluded is not None:
            matched.masked_fill_(excluded, IGNORED)
            max_ious.masked_fill_(excluded, -1)
        return matched, max_ious

    gts = pad_sequence([gts.to(anchors) for gts in gt_bboxes], batch_first=True)
    # Filled from the host's numbers, without a copy that it would wait for.
    is_gt = torch.zeros(batch, most, dtype=torch.bool, device=device)
    offsets = torch.zeros(batch, 1, dtype=torch.int64, device=device)
    for b, count in enumerate(counts):
        is_gt[b, :count] = True
        offsets[b] = sum(counts[:b])
    tile = max(1, _TILE // (batch * num_anchors))

    def tiles():
        for start in range(0, most, tile):
            ious = iou_fn(gts[:, start : start + tile], anchors)  # (B, T, N)
            if excluded is not None:
                ious = ious.masked_fill(excluded[:, None], -1)
            if min(counts) < most:
                padding = ~is_gt[:, start : start + tile, None]
                ious = ious.masked_fill(padding, -torch.inf)
            yield start, ious

    max_ious.fill_(-torch.inf)
    best_gt = torch.zeros_like(matched)
    gt_max_ious, gt_best_anchor = [], []
    for start, ious in tiles():
        tile_max, tile_best = ious.max(dim=1)
        better = tile_max > max_ious  # on a tie the earlier object stays
        max_ious = torch.where(better, tile_max, max_ious)
        best_gt = torch.where(better, tile_best + start, best_gt)
        gt_max, gt_best = ious.max(dim=2)
        gt_max_ious.append(gt_max)
        gt_best_anchor.append(gt_best)
    best_gt += offsets

    low, high = neg_iou_thr
    is_background = (max_ious >= low) & (max_ious < high)
    matched = torch.where(is_background, UNMATCHED, IGNORED)
    matched = torch.where(max_ious >= pos_iou_thr, best_gt + 1, matched)

    if match_low_quality:
        gt_max_iou = torch.cat(gt_max_ious, dim=1)  # (B, M)
        # An object that nothing overlaps has IoU 0 with every anchor; it must
        # not claim them all (mmdetection issues 6821 and 8289).
        claims = (gt_max_iou >= min_pos_iou) & (gt_max_iou > 0)
        gt_index = offsets + torch.arange(most, device=device)
        claimant = torch.where(claims, gt_index, -1)  # (B, M)
        claimed_by = torch.full_like(matched, -1)
        if gt_max_assign_all:
            for start, ious in tiles():
                stop = start + ious.size(1)
                is_best = ious == gt_max_iou[:, start:stop, None]
                claim = torch.where(is_best, claimant[:, start:stop, None], -1)
                claimed_by = torch.maximum(claimed_by, claim.amax(dim=1))
        else:
            best_anchor = torch.cat(gt_best_anchor, dim=1)
            claimed_by = claimed_by.scatter_reduce(1, best_anchor, claimant, 'amax')
        matched = torch.where(claimed_by >= 0, claimed_by + 1, matched)

    for b, count in enumerate(counts):
        if count == 0:  # all is background, whatever the thresholds
            matched[b] = UNMATCHED
            max_ious[b] = 0
            if excluded is not None:
                matched[b].masked_fill_(excluded[b], IGNORED)
                max_ious[b].masked_fill_(excluded[b], -1)
    return matched, max_ious
