"""Max-IoU matching of anchors to objects (section 4, "Anchors").

An anchor is given to the object that it overlaps most when that IoU is at
least ``pos_iou_thr``, is background when it is below ``neg_iou_thr``, and is
ignored in between. Low-quality matches, RPN's rule that Detectron keeps for
RetinaNet, also give each object the anchors that overlap it most.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from focal_retinanet.ops.matching import native as matching_native
from focal_retinanet.ops.matching import plain as matching_plain
from focal_retinanet.ops.matching import triton as matching_triton
from focal_retinanet.ops.matching.plain import IGNORED, UNMATCHED, pairwise_iou

__all__ = [
    'IGNORED',
    'UNMATCHED',
    'match_max_iou',
    'match_max_iou_batch',
    'pairwise_iou',
]


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

    Nothing is differentiable: what is matched is a constant of the training.

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

    Raises:
        ValueError: boxes that are not (M, 4), unless ``iou_fn`` takes others;
            ``excluded`` of another shape.
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


@torch.no_grad()
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

    A C++ kernel on a CPU and Triton kernels on a GPU visit only anchors near an
    object, in memory of O(anchors + objects). Elsewhere, with an ``iou_fn``, and
    where a call is recorded or compiled, tiles of the IoU matrix are made one
    after the other. In no case does the host wait for a GPU.

    An IoU that is NaN, of boxes that are not finite, is the highest, as for
    ``torch.max``: neither the anchor nor the object is matched.

    Args:
        anchors: (N, 4) floating, xyxy, absolute pixels.
        gt_bboxes: (M_b, 4) for each image, likewise; M_b may be 0.
        excluded: (B, N) bool, anchors that match nothing and are ignored.
        others: as of :func:`match_max_iou`.

    Returns:
        - (B, N) int64: 0 background, -1 ignored, i + 1 for object i, counted
          through all images' objects one after the other.
        - (B, N) highest IoU of each anchor; 0 without objects, -1 if excluded.

    Raises:
        ValueError: as :func:`match_max_iou`.
    """
    settings = (
        pos_iou_thr,
        neg_iou_thr,
        min_pos_iou,
        match_low_quality,
        gt_max_assign_all,
        excluded,
    )
    _check_shapes(anchors, gt_bboxes, excluded, any_boxes=iou_fn is not None)
    if iou_fn is None:
        for backend in (matching_native, matching_triton):
            if backend.is_available(anchors, *gt_bboxes, excluded):
                return backend.match(anchors, gt_bboxes, *settings)
    return matching_plain.match(anchors, gt_bboxes, *settings, iou_fn)


def _check_shapes(
    anchors: Tensor,
    gt_bboxes: Sequence[Tensor],
    excluded: Tensor | None,
    any_boxes: bool,
) -> None:
    for boxes in () if any_boxes else (anchors, *gt_bboxes):
        if boxes.numel() and boxes.shape[1:] != (4,):
            raise ValueError(f'boxes must be (N, 4) xyxy, got {tuple(boxes.shape)}')
    shape = (len(gt_bboxes), len(anchors))
    if excluded is not None and excluded.shape != shape:
        raise ValueError(f'excluded must be {shape}, got {tuple(excluded.shape)}')
