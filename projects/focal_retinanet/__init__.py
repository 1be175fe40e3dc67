"""Focal RetinaNet: "Focal Loss for Dense Object Detection" for MMDetection.

Configs name components by their scope, such as ``type='focal_retinanet.FocalLoss'``;
mmengine then imports :mod:`focal_retinanet.registry`. The arithmetic of the paper is in
:mod:`focal_retinanet.ops`, which needs PyTorch only. A trained model is a
:class:`~focal_retinanet.engine.inference.Detector`, which is imported when it is named.
"""

from typing import TYPE_CHECKING

from focal_retinanet.version import __version__

if TYPE_CHECKING:
    from focal_retinanet.engine.inference import Detector

__all__ = ['Detector', '__version__']


def __getattr__(name: str) -> object:
    if name == 'Detector':
        from focal_retinanet.engine.inference import Detector

        return Detector
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
