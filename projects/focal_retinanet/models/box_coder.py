"""Encoding and decoding by the box coder of a config."""

from collections.abc import Sequence

from mmdet.models.task_modules import BaseBBoxCoder, DeltaXYWHBBoxCoder
from mmdet.structures.bbox import BaseBoxes
from torch import Tensor

from focal_retinanet.ops.box_deltas import decode_deltas, encode_deltas


def encode_bboxes(coder: BaseBBoxCoder, anchors: Tensor, bboxes: Tensor) -> Tensor:
    """Return the regression targets of anchors.

    Args:
        coder: Coder that ``bbox_coder`` builds.
        anchors: Anchors (N, 4), xyxy.
        bboxes: Box of each anchor (N, 4), xyxy.

    Returns:
        Deltas (N, D), with D = 4 for the usual coder.
    """
    if _is_usual(coder):
        return encode_deltas(anchors, bboxes, coder.means, coder.stds)
    return coder.encode(anchors, bboxes)


def decode_bboxes(
    coder: BaseBBoxCoder,
    anchors: Tensor,
    deltas: Tensor,
    max_shape: Sequence[int] | None = None,
) -> Tensor | BaseBoxes:
    """Return the boxes that deltas make of anchors.

    Args:
        coder: Coder that ``bbox_coder`` builds.
        anchors: Anchors (N, 4), xyxy.
        deltas: Deltas (N, D), with D = 4 for the usual coder.
        max_shape: (height, width, ...) of the image that boxes are clipped to, or None.

    Returns:
        Boxes (N, 4), xyxy; of the coder's type if it has one.
    """
    if _is_usual(coder):
        clip = max_shape if coder.clip_border else None
        return decode_deltas(anchors, deltas, coder.means, coder.stds, clip)
    return coder.decode(anchors, deltas, max_shape=max_shape)


def _is_usual(coder: BaseBBoxCoder) -> bool:
    """Whether a coder computes what :mod:`focal_retinanet.ops.box_deltas` does."""
    return type(coder) is DeltaXYWHBBoxCoder and not (
        coder.add_ctr_clamp or coder.use_box_type
    )
