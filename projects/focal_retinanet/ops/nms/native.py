"""Non-maximum suppression on a CPU, by the C++ kernel ``native.cpp``."""

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from focal_retinanet.ops.fast_paths import compile
from focal_retinanet.ops.fast_paths.eager import is_eager
from focal_retinanet.ops.fast_paths.step_aside import say_once


def is_available(bboxes: Tensor) -> bool:
    """Whether the kernel serves: fp32 boxes on a CPU, in a call that is not traced."""
    if (
        bboxes.device.type != 'cpu'
        or bboxes.dtype != torch.float32
        or _kernel() is None
    ):
        return False
    if not is_eager(bboxes):
        say_once(
            'Non-maximum suppression is traced, or its boxes are not a plain tensor: '
            "mmcv's operator replaces the compiled kernel"
        )
        return False
    return True


def grouped_nms(
    bboxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, limit: int
) -> Tensor:
    """Suppress boxes within each group, all groups in one call.

    Boxes of different groups do not suppress each other. Unlike the usual shift of each
    group to its own coordinates, this costs no precision. Among equal scores, the
    earlier box is better. A NaN score is better than any other. A box with a NaN
    coordinate stays.

    Args:
        bboxes: Boxes (N, 4), xyxy, fp32, on the CPU like all arguments.
        scores: Scores (N,).
        groups: Group (N,) of each box, int64, such as image * K + class.
        iou_threshold: IoU with a better box above which a box is suppressed.
        limit: Highest number of boxes to keep per group.

    Returns:
        Indices (M,) of the boxes that stay, int64, best score first.

    Raises:
        ValueError: Boxes have the wrong shape or dtype.
    """
    if bboxes.shape[1:] != (4,) or bboxes.dtype != torch.float32:
        raise ValueError(
            f'bboxes must be (N, 4) of float32, got {tuple(bboxes.shape)} of '
            f'{bboxes.dtype}'
        )
    order = scores.argsort(descending=True, stable=True)
    by_group = order[groups[order].argsort(stable=True)]
    bboxes = bboxes.detach()[by_group].contiguous()
    _, counts = groups[by_group].unique_consecutive(return_counts=True)
    group_start = torch.zeros(len(counts) + 1, dtype=torch.int64, device='cpu')
    group_start[1:] = counts.cumsum(0)
    keep = torch.empty(len(bboxes), dtype=torch.bool, device='cpu')
    _kernel()(
        bboxes.data_ptr(),
        group_start.data_ptr(),
        len(counts),
        iou_threshold,
        limit,
        keep.data_ptr(),
        torch.get_num_threads(),
    )
    stays = torch.empty_like(keep)
    stays[by_group] = keep
    return order[stays[order]]


@functools.cache
def _kernel():
    library = compile.load(
        'nms', Path(__file__).with_name('native.cpp'), '-ffp-contract=off'
    )
    if library is None:
        return None
    kernel = library.nms
    kernel.restype = None
    kernel.argtypes = [
        *[ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64],
        *[ctypes.c_float, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int],
    ]
    return kernel
