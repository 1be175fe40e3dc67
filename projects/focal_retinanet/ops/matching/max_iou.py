"""Max-IoU matching of anchors to objects (section 4, "Anchors").

An anchor belongs to the object with which it has the highest IoU if that IoU is at
least ``pos_iou_thr``. It is background if the IoU is below ``neg_iou_thr``, and it is
ignored in between. Low-quality matches, RPN's rule that Detectron keeps for RetinaNet,
also give each object the anchors that overlap it most.

For example, three anchors and two objects with ``pos_iou_thr=0.5`` and
``neg_iou_thr=(0, 0.4)``, where object 2 has no anchor above 0.5::

    IoU with object 1               0.62    0.42    0.10
    IoU with object 2               0.20    0.45    0.30
    match_low_quality=False            1      -1       0
    match_low_quality=True             1       2       0
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from focal_retinanet.ops.matching import native, plain, triton
from focal_retinanet.ops.matching.plain import IGNORED, UNMATCHED, pairwise_iou
from focal_retinanet.ops.matching.rule import MatchingRule

__all__ = [
    'IGNORED',
    'UNMATCHED',
    'MatchingRule',
    'match_max_iou',
    'match_max_iou_batch',
    'pairwise_iou',
]

#: All backends, the fastest first. The last one is always available.
BACKENDS = (native, triton, plain)


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

    Nothing is differentiable: the result is a constant of the training.

    Args:
        anchors: Anchors (N, 4), floating, xyxy, absolute pixels.
        gt_bboxes: Objects (M, 4), likewise; M may be 0.
        pos_iou_thr: Lowest IoU of a positive.
        neg_iou_thr: Interval [low, high) of the background's IoU.
        min_pos_iou: Lowest IoU of a low-quality match. A match without any overlap is
            never made.
        match_low_quality: Whether each object also gets the anchors that overlap it
            most, even if their IoU is below ``pos_iou_thr`` or they overlap another
            object more. If two objects claim an anchor, the later object gets it.
        gt_max_assign_all: Whether an object gets all anchors that tie for its highest
            IoU, or only the first.
        excluded: Mask (N,), bool, of anchors that match nothing and are ignored.
        iou_fn: Function that maps (M, 4) and (N, 4) to (M, N), in place of the IoU.

    Returns:
        - (N,) int64: 0 for background, -1 for ignored, i + 1 for object i.
        - (N,) highest IoU of each anchor, fp32 (fp64 for fp64 anchors); 0 without
          objects, -1 if excluded.

    Raises:
        ValueError: Boxes are not (M, 4), unless ``iou_fn`` takes others, or
            ``excluded`` has another shape.
    """
    matched, max_ious = match_max_iou_batch(
        anchors,
        [gt_bboxes],
        MatchingRule(
            pos_iou_thr, neg_iou_thr, min_pos_iou, match_low_quality, gt_max_assign_all
        ),
        None if excluded is None else excluded[None],
        iou_fn,
    )
    return matched[0], max_ious[0]


@torch.no_grad()
def match_max_iou_batch(
    anchors: Tensor,
    gt_bboxes: Sequence[Tensor],
    rule: MatchingRule,
    excluded: Tensor | None = None,
    iou_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Match the same N anchors with the objects of each of B images.

    A C++ kernel on a CPU and Triton kernels on a GPU visit only the anchors near an
    object, in memory of O(anchors + objects). Plain PyTorch computes the IoU matrix
    tile by tile elsewhere, with an ``iou_fn``, and if the call is traced or compiled.
    The host never waits for a GPU.

    An IoU that is NaN, because a box is not finite, counts as the highest, as it does
    for ``torch.max``: neither the anchor nor the object is matched.

    Args:
        anchors: Anchors (N, 4), floating, xyxy, absolute pixels.
        gt_bboxes: Objects (M_b, 4) of each image, likewise; M_b may be 0.
        rule: Thresholds.
        excluded: Mask (B, N), bool, of anchors that match nothing and are ignored.
        iou_fn: Function that maps (M, 4) and (N, 4) to (M, N), in place of the IoU.

    Returns:
        - (B, N) int64: 0 for background, -1 for ignored, i + 1 for object i, with
          objects counted over all images.
        - (B, N) highest IoU of each anchor, fp32 (fp64 for fp64 anchors; what
          ``iou_fn`` returns, if given); 0 without objects, -1 if excluded.

    Raises:
        ValueError: See :func:`match_max_iou`.
    """
    _check_shapes(anchors, gt_bboxes, excluded, any_boxes=iou_fn is not None)
    if iou_fn is not None:
        return plain.match(anchors, gt_bboxes, rule, excluded, iou_fn)
    anchors = plain.as_wide(anchors)
    tensors = (anchors, *gt_bboxes, excluded)
    backend = next(b for b in BACKENDS if b.is_available(*tensors))
    return backend.match(anchors, gt_bboxes, rule, excluded)


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
