"""Focal RetinaNet: "Focal Loss for Dense Object Detection" for MMDetection.

Configs name components by their scope, such as ``type='focal_retinanet.FocalLoss'``;
mmengine then imports :mod:`focal_retinanet.registry`. The arithmetic of the paper is in
:mod:`focal_retinanet.ops`, which needs PyTorch only.
"""

from focal_retinanet.version import __version__

__all__ = ['__version__']
