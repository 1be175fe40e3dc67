"""Matching on a CPU, by the C++ kernel ``csrc/matching.cpp``."""

import ctypes
import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from focal_retinanet.ops import native


def is_available(anchors: Tensor) -> bool:
    """Whether the kernel takes these anchors: fp32, on a CPU."""
    return (
        anchors.device.type == 'cpu'
        and anchors.dtype == torch.float32
        and _kernel() is not None
    )


def match(
    anchors: Tensor,
    gt_bboxes: Sequence[Tensor],
    pos_iou_thr: float,
    neg_iou_thr: tuple[float, float],
    min_pos_iou: float,
    match_low_quality: bool,
    gt_max_assign_all: bool,
    excluded: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """As :func:`focal_retinanet.ops.matching.match_max_iou_batch`.

    Raises:
        ValueError: boxes or ``excluded`` of a shape that the kernel would misread.
    """
    batch, num_anchors = len(gt_bboxes), len(anchors)
    for boxes in (anchors, *gt_bboxes):
        if boxes.numel() and boxes.shape[1:] != (4,):
            raise ValueError(f'boxes must be (N, 4) xyxy, got {tuple(boxes.shape)}')
    if excluded is not None and excluded.shape != (batch, num_anchors):
        raise ValueError(
            f'excluded must be {(batch, num_anchors)}, got {tuple(excluded.shape)}'
        )
    counts = torch.tensor([0, *map(len, gt_bboxes)])
    gt_start = counts.cumsum(0)
    gts = torch.cat(list(gt_bboxes)).to(anchors).contiguous()
    anchors = anchors.contiguous()
    if excluded is not None:
        excluded = excluded.to(anchors.device, torch.bool).contiguous()
    matched = torch.empty(batch, num_anchors, dtype=torch.int64)
    max_ious = torch.empty(batch, num_anchors)
    _kernel()(
        anchors.data_ptr(),
        num_anchors,
        gts.data_ptr(),
        gt_start.data_ptr(),
        batch,
        None if excluded is None else excluded.data_ptr(),
        pos_iou_thr,
        *neg_iou_thr,
        min_pos_iou,
        match_low_quality,
        gt_max_assign_all,
        matched.data_ptr(),
        max_ious.data_ptr(),
        torch.get_num_threads(),
    )
    return matched, max_ious


@functools.cache
def _kernel():
    # Contracted to fused multiply-adds, the IoU would differ in its last bit
    # from PyTorch's, and ties would break differently.
    library = native.load('matching', '-ffp-contract=off')
    if library is None:
        return None
    pointer, integer, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    kernel = library.match_max_iou
    kernel.restype = None
    kernel.argtypes = [
        *[pointer, integer, pointer, pointer, integer, pointer],
        *[real, real, real, real, ctypes.c_int, ctypes.c_int],
        *[pointer, pointer, ctypes.c_int],
    ]
    return kernel
