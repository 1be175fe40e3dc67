"""Non-maximum suppression of a batch as a custom operator, for exported models.

A graph holds it as one node, ``focal_retinanet::batched_nms``. ONNX has an operator of
its own for it, see :mod:`focal_retinanet.export.onnx`.
"""

import torch
from torch import Tensor

from focal_retinanet.ops.nms import native
from focal_retinanet.ops.nms.plain import grouped_nms_mask

#: Whether this torch has custom operators in Python (from 2.4 on).
IS_SUPPORTED = hasattr(torch.library, 'custom_op')


def _batched_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    iou_threshold: float,
    num_classes: int,
) -> Tensor:
    """Suppress boxes within each class of each image.

    Args:
        boxes: Boxes (B, n, 4), xyxy, fp32.
        scores: Scores (B, n), fp32; a box without a positive score is none.
        labels: Classes (B, n), int64, below ``num_classes``.
        iou_threshold: IoU with a better box above which a box is suppressed.
        num_classes: Number of classes K.

    Returns:
        Whether each box stays (B, n), bool.
    """
    candidate = scores > 0
    image, _ = candidate.nonzero(as_tuple=True)
    groups = image * num_classes + labels[candidate]
    found, best = boxes[candidate], scores[candidate]
    keep = torch.zeros_like(candidate)
    if native.is_available(found):
        stays = torch.zeros_like(groups, dtype=torch.bool)
        kept = native.grouped_nms(found, best, groups, iou_threshold, len(found))
        stays[kept] = True
    else:
        stays = grouped_nms_mask(found, best, groups, iou_threshold)
    keep[candidate] = stays
    return keep


if IS_SUPPORTED:
    batched_nms = torch.library.custom_op(
        'focal_retinanet::batched_nms', _batched_nms, mutates_args=()
    )

    @batched_nms.register_fake
    def _(boxes, scores, labels, iou_threshold, num_classes):
        return torch.empty_like(scores, dtype=torch.bool)
else:
    batched_nms = _batched_nms
