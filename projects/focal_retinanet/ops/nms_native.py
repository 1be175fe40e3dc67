"""Non-maximum suppression on a CPU, by the C++ kernel ``csrc/nms.cpp``."""

import ctypes
import functools

import torch
from torch import Tensor

from focal_retinanet.ops import native


def is_available(bboxes: Tensor) -> bool:
    """Whether the kernel takes these boxes: fp32, on a CPU."""
    return (
        bboxes.device.type == 'cpu'
        and bboxes.dtype == torch.float32
        and _kernel() is not None
    )


def grouped_nms(
    bboxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, limit: int
) -> Tensor:
    """Non-maximum suppression within each group, all groups at once.

    Boxes of different groups do not see each other. Unlike the usual shift of
    each group to coordinates of its own, this costs no precision.

    Args:
        bboxes: (N, 4) xyxy, fp32.
        scores: (N,)
        groups: (N,) int64, such as image * K + class.
        iou_threshold: a box goes that overlaps a better one by more than this.
        limit: most boxes to keep of a group.

    Returns:
        (M,) int64, indices of the boxes that stay, best score first.
    """
    order = scores.argsort(descending=True, stable=True)
    by_group = order[groups[order].argsort(stable=True)]
    bboxes = bboxes[by_group].contiguous()
    _, counts = groups[by_group].unique_consecutive(return_counts=True)
    group_start = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    keep = torch.empty(len(bboxes), dtype=torch.bool)
    _kernel()(
        bboxes.data_ptr(),
        group_start.data_ptr(),
        len(counts),
        iou_threshold,
        limit,
        keep.data_ptr(),
        torch.get_num_threads(),
    )
    kept = by_group[keep]
    return kept[scores[kept].argsort(descending=True, stable=True)]


@functools.cache
def _kernel():
    library = native.load('nms', '-ffp-contract=off')
    if library is None:
        return None
    kernel = library.nms
    kernel.restype = None
    kernel.argtypes = [
        *[ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64],
        *[ctypes.c_float, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int],
    ]
    return kernel
