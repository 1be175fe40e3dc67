"""Losses of the classification subnet, as components of a config."""

from focal_retinanet.models.losses.focal_loss import FocalLoss
from focal_retinanet.models.losses.rivals import FocalLossStar, HingeLoss
from focal_retinanet.models.losses.use_sigmoid import with_use_sigmoid

__all__ = [
    'FocalLoss',
    'FocalLossStar',
    'HingeLoss',
    'with_use_sigmoid',
]
