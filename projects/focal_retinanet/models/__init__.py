"""Components of a config: thin classes that hold parameters and call ``ops``."""

from focal_retinanet.models.anchor_generator import AnchorGenerator
from focal_retinanet.models.losses import FocalLoss, FocalLossStar, HingeLoss
from focal_retinanet.models.max_iou_assigner import MaxIoUAssigner
from focal_retinanet.models.retina_head import RetinaHead
from focal_retinanet.models.samplers import HardNegativeSampler, OHEMSampler
from focal_retinanet.models.ssd_head import SSDHead
from focal_retinanet.models.torchvision_anchors import TorchvisionAnchorGenerator

__all__ = [
    'AnchorGenerator',
    'FocalLoss',
    'FocalLossStar',
    'HardNegativeSampler',
    'HingeLoss',
    'MaxIoUAssigner',
    'OHEMSampler',
    'RetinaHead',
    'SSDHead',
    'TorchvisionAnchorGenerator',
]
