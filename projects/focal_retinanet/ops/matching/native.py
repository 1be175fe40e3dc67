"""Matching on a CPU, by the C++ kernel ``native.cpp``."""

import ctypes
import functools
import logging
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from focal_retinanet.ops.fast_paths import compile
from focal_retinanet.ops.fast_paths.eager import is_eager
from focal_retinanet.ops.matching import plain
from focal_retinanet.ops.matching.rule import MatchingRule

logger = logging.getLogger('focal_retinanet')


def is_available(anchors: Tensor, *others: Tensor | None) -> bool:
    """Whether the kernel serves: fp32 anchors on a CPU, in a call that is not traced."""
    return (
        anchors.device.type == 'cpu'
        and anchors.dtype == torch.float32
        and is_eager(anchors, *others)
        and _kernel() is not None
    )


def match(
    anchors: Tensor,
    gt_bboxes: Sequence[Tensor],
    rule: MatchingRule,
    excluded: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Match by the kernel, or by plain PyTorch if a box is not finite.

    See :func:`focal_retinanet.ops.matching.max_iou.match_max_iou_batch`.
    """
    batch, num_anchors = len(gt_bboxes), len(anchors)
    starts = list(accumulate(map(len, gt_bboxes), initial=0))
    # The default dtype and device do not count for what the kernel reads and writes.
    gt_start = torch.tensor(starts, dtype=torch.int64, device='cpu')
    matched = torch.empty(batch, num_anchors, dtype=torch.int64, device='cpu')
    max_ious = torch.empty(batch, num_anchors, dtype=torch.float32, device='cpu')
    boxes = anchors.contiguous()
    gts = torch.cat([anchors[:0], *(gts.to(anchors) for gts in gt_bboxes)])
    if excluded is not None:
        excluded = excluded.to('cpu', torch.bool).contiguous()
    are_finite = _kernel()(
        boxes.data_ptr(),
        num_anchors,
        gts.data_ptr(),
        gt_start.data_ptr(),
        batch,
        None if excluded is None else excluded.data_ptr(),
        rule.pos_iou_thr,
        *rule.neg_iou_thr,
        rule.min_pos_iou,
        rule.match_low_quality,
        rule.gt_max_assign_all,
        matched.data_ptr(),
        max_ious.data_ptr(),
        torch.get_num_threads(),
    )
    if are_finite:
        return matched, max_ious
    _say_that_boxes_are_not_finite()
    return plain.match(anchors, gt_bboxes, rule, excluded)


@functools.cache
def _say_that_boxes_are_not_finite() -> None:
    logger.warning(
        'Some boxes are NaN, infinite, or too large for fp32, so plain PyTorch matches '
        'them, which is slower'
    )


@functools.cache
def _kernel():
    # Contracted to fused multiply-adds, the IoU would differ in its last bit
    # from PyTorch's, and ties would break differently.
    library = compile.load(
        'matching', Path(__file__).with_name('native.cpp'), '-ffp-contract=off'
    )
    if library is None:
        return None
    pointer, integer, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    kernel = library.match_max_iou
    kernel.restype = ctypes.c_int
    kernel.argtypes = [
        *[pointer, integer, pointer, pointer, integer, pointer],
        *[real, real, real, real, ctypes.c_int, ctypes.c_int],
        *[pointer, pointer, ctypes.c_int],
    ]
    return kernel
