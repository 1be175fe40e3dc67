"""Losses for the classification subnet, as components of a config."""

from focal_retinanet.models.losses.focal_loss import FocalLoss
from focal_retinanet.models.losses.focal_loss_star import FocalLossStar
from focal_retinanet.models.losses.hinge_loss import HingeLoss

__all__ = ['FocalLoss', 'FocalLossStar', 'HingeLoss']
