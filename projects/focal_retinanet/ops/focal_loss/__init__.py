"""Focal loss (section 3 of the paper): its definition, and fast paths for its sum.

``definition.py`` is the paper's formula in plain PyTorch. ``fused.py`` computes the
sum over all levels and its gradient by the fastest of three backends, among which
``backends.py`` chooses: ``native.py`` (C++, on a CPU), ``triton.py`` (on an NVIDIA
GPU), ``chunked.py`` (plain PyTorch, anywhere). The README derives their formula.
"""

from focal_retinanet.ops.focal_loss.definition import (
    sigmoid_focal_loss,
    softmax_focal_loss,
)
from focal_retinanet.ops.focal_loss.fused import (
    sigmoid_focal_loss_of_anchors,
    sigmoid_focal_loss_sum,
)

__all__ = [
    'sigmoid_focal_loss',
    'sigmoid_focal_loss_of_anchors',
    'sigmoid_focal_loss_sum',
    'softmax_focal_loss',
]
