"""The arithmetic of the paper: pure functions on tensors, PyTorch only."""

from focal_retinanet.ops.focal_loss import (
    sigmoid_focal_loss,
    sigmoid_focal_loss_sum,
    softmax_focal_loss,
)
from focal_retinanet.ops.matching import IGNORED, UNMATCHED, match_max_iou, pairwise_iou

__all__ = [
    'IGNORED',
    'UNMATCHED',
    'match_max_iou',
    'pairwise_iou',
    'sigmoid_focal_loss',
    'sigmoid_focal_loss_sum',
    'softmax_focal_loss',
]
