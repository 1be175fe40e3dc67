"""Focal RetinaNet: "Focal Loss for Dense Object Detection" for MMDetection.

Components are named in configs by their scope, e.g.
``type='focal_retinanet.FocalLoss'``; mmengine then imports
:mod:`focal_retinanet.registry` by itself. The arithmetic of the paper, free of
any config, is in :mod:`focal_retinanet.ops`.
"""

from focal_retinanet.stack import check_stack
from focal_retinanet.version import __version__

check_stack()

__all__ = ['__version__']
