"""Padding of images to whole strides as a custom operator, for exported models.

The operator hides how the new size depends on the old one. Otherwise every size in the
graph is a formula of remainders, and tracing takes twice as long.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from focal_retinanet.ops.nms.operator import IS_SUPPORTED


def pad_to_multiple(images: Tensor, divisor: int, value: float) -> Tensor:
    """Pad images at the bottom and on the right.

    Args:
        images: Images (B, C, H, W).
        divisor: Number that divides the new height and width.
        value: Value of the padding.

    Returns:
        Images (B, C, H', W').
    """
    height, width = images.shape[-2:]
    if IS_SUPPORTED and not (isinstance(height, int) and isinstance(width, int)):
        return _pad_to_multiple(images, divisor, value)  # traced with free sizes
    return _pad(images, divisor, value)


def _pad(images: Tensor, divisor: int, value: float) -> Tensor:
    height, width = images.shape[-2:]
    missing = (0, -width % divisor, 0, -height % divisor)
    # Also without padding, the result of an operator has to be a new tensor.
    return F.pad(images, missing, value=value) if any(missing) else images.clone()


if IS_SUPPORTED:
    _pad_to_multiple = torch.library.custom_op(
        'focal_retinanet::pad_to_multiple', _pad, mutates_args=()
    )

    @_pad_to_multiple.register_fake
    def _(images, divisor, value):
        sizes = torch.library.get_ctx()
        height, width = sizes.new_dynamic_size(min=1), sizes.new_dynamic_size(min=1)
        batch, channels = images.shape[:2]
        return images.new_empty(batch, channels, height * divisor, width * divisor)
