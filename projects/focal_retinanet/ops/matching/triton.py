"""Matching on a GPU, by two Triton kernels, in memory of O(anchors + objects)."""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from focal_retinanet.ops.fast_paths import triton_probe
from focal_retinanet.ops.fast_paths.eager import is_eager
from focal_retinanet.ops.matching.rule import MatchingRule

# Anchors per program. A single warp reduces them without a barrier.
_BLOCK = 128


def is_available(anchors: Tensor, *others: Tensor | None) -> bool:
    """Whether the kernels serve: fp32 anchors on a GPU where Triton works."""
    return (
        anchors.dtype == torch.float32
        and is_eager(anchors, *others)
        and triton_probe.works(anchors.device, match_a_few_anchors)
    )


def match(
    anchors: Tensor,
    gt_bboxes: Sequence[Tensor],
    rule: MatchingRule,
    excluded: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Match by two kernels; the host never waits for the device.

    See :func:`focal_retinanet.ops.matching.max_iou.match_max_iou_batch`.
    """
    # Imported late: Triton takes a second, and not every torch has it.
    from focal_retinanet.ops.matching import triton_kernels as kernels

    batch, num_anchors, device = len(gt_bboxes), len(anchors), anchors.device
    matched = torch.empty(batch, num_anchors, dtype=torch.int64, device=device)
    max_ious = torch.empty(batch, num_anchors, dtype=torch.float32, device=device)
    if not batch or not num_anchors:
        return matched, max_ious
    anchors = anchors.contiguous()
    gts = torch.cat([anchors[:0], *(gts.to(anchors) for gts in gt_bboxes)])
    # From pinned memory, or the host would wait for the copy.
    gt_start = torch.tensor(
        list(accumulate(map(len, gt_bboxes), initial=0)),
        dtype=torch.int32,
        device='cpu',
        pin_memory=device.type == 'cuda',
    ).to(device, non_blocking=True)
    has_excluded = excluded is not None
    # A kernel wants a pointer also where it does not read from it.
    excluded = excluded.to(device, torch.bool).contiguous() if has_excluded else matched
    best_of_gt = torch.zeros(len(gts), dtype=torch.int64, device=device)

    grid = (-(-num_anchors // _BLOCK), batch)
    tensors = dict(
        anchors=anchors,
        num_anchors=num_anchors,
        gts=gts,
        gt_start=gt_start,
        excluded=excluded,
        matched=matched,
        best_of_gt=best_of_gt,
        HAS_EXCLUDED=has_excluded,
        BLOCK=_BLOCK,
        num_warps=1,
        enable_fp_fusion=False,
    )
    low, high = map(float, rule.neg_iou_thr)
    with torch.cuda.device_of(anchors):  # Triton launches on the current device
        kernels.match_by_threshold[grid](
            pos_iou_thr=float(rule.pos_iou_thr),
            neg_low=low,
            neg_high=high,
            max_ious=max_ious,
            **tensors,
        )
        if rule.match_low_quality:
            kernels.match_low_quality[grid](
                min_pos_iou=float(rule.min_pos_iou),
                ASSIGN_ALL=bool(rule.gt_max_assign_all),
                **tensors,
            )
    return matched, max_ious


def match_a_few_anchors(device: torch.device) -> None:
    """Launch both kernels on boxes that can be checked by hand.

    Raises:
        Exception: Triton cannot compile or launch a kernel, or the result is wrong.
    """
    boxes = dict(dtype=torch.float32, device=device)
    heights = [9.0, 4.5, 3.0, 3.0]
    anchors = torch.tensor([[0.0, 0.0, 10.0, height] for height in heights], **boxes)
    gts = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 3], [0, 0, 10, 20]], **boxes)
    matched, max_ious = match(anchors, [gts[:2], gts[2:]], MatchingRule(), None)
    if matched.tolist() != [[1, 2, 2, 2], [3, 0, 0, 0]]:
        raise RuntimeError(f'the matching is wrong: {matched.tolist()}')
    expected = torch.tensor([[90, 30, 30, 30], [90, 45, 30, 30]], **boxes)
    expected /= torch.tensor([[100, 45, 30, 30], [200, 200, 200, 200]], **boxes)
    if not torch.equal(max_ious, expected):
        raise RuntimeError(f'the IoUs are wrong: {max_ious.tolist()}')
