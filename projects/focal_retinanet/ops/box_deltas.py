"""Box regression: offsets of a box from its anchor, as in R-CNN (section 4).

mmdet's coder copies its means and standard deviations to the device in each call, and a
GPU's host waits for a copy.
"""

import math
import operator
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# A box is at most 62.5 times as wide or high as its anchor, and at least 1/62.5.
_LARGEST_LOG_RATIO = abs(math.log(16 / 1000))


def encode_deltas(
    anchors: Tensor,
    bboxes: Tensor,
    means: Sequence[float] = (0.0,) * 4,
    stds: Sequence[float] = (1.0,) * 4,
) -> Tensor:
    """Return the deltas from anchors to boxes.

    Args:
        anchors: Anchors (N, 4), xyxy.
        bboxes: Box of each anchor (N, 4), xyxy.
        means: Means that are subtracted from dx, dy, dw and dh.
        stds: Standard deviations by which they are divided afterwards.

    Returns:
        Deltas (N, 4), fp32: dx and dy of the centres, as shares of the anchor's width
        and height, and the logarithms dw and dh of the ratios of the sizes.
    """
    anchors, bboxes = anchors.float(), bboxes.float()
    sizes = anchors[:, 2:] - anchors[:, :2]
    centres = (anchors[:, :2] + anchors[:, 2:]) * 0.5
    shifts = ((bboxes[:, :2] + bboxes[:, 2:]) * 0.5 - centres) / sizes
    ratios = ((bboxes[:, 2:] - bboxes[:, :2]) / sizes).log()
    deltas = torch.cat([shifts, ratios], dim=1)
    if any(means):
        deltas = _by_column(operator.sub, deltas, means)
    if any(std != 1 for std in stds):
        deltas = _by_column(operator.truediv, deltas, stds)
    return deltas


def decode_deltas(
    anchors: Tensor,
    deltas: Tensor,
    means: Sequence[float] = (0.0,) * 4,
    stds: Sequence[float] = (1.0,) * 4,
    max_shape: Sequence[int] | None = None,
) -> Tensor:
    """Return the boxes that deltas make of anchors.

    Args:
        anchors: Anchors (..., 4), xyxy.
        deltas: Deltas (..., 4), see :func:`encode_deltas`.
        means: Means that are added to the deltas times ``stds``.
        stds: Standard deviations by which the deltas are multiplied.
        max_shape: (height, width, ...) of the image that boxes are clipped to, or None.

    Returns:
        Boxes (..., 4), xyxy.
    """
    if any(std != 1 for std in stds):
        deltas = _by_column(operator.mul, deltas, stds)
    if any(means):
        deltas = _by_column(operator.add, deltas, means)
    sizes = anchors[..., 2:] - anchors[..., :2]
    centres = (anchors[..., :2] + anchors[..., 2:]) * 0.5 + sizes * deltas[..., :2]
    log_ratios = deltas[..., 2:].clamp(-_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO)
    halves = sizes * log_ratios.exp() * 0.5
    bboxes = torch.cat([centres - halves, centres + halves], dim=-1)
    if max_shape is not None:
        height, width = max_shape[:2]
        bboxes[..., 0::2].clamp_(min=0, max=width)
        bboxes[..., 1::2].clamp_(min=0, max=height)
    return bboxes


def _by_column(
    function: Callable[[Tensor, float], Tensor],
    deltas: Tensor,
    numbers: Sequence[float],
) -> Tensor:
    """Apply a function of a column and its number, which stays on the host."""
    pairs = zip(deltas.unbind(-1), numbers, strict=True)
    return torch.stack([function(*pair) for pair in pairs], dim=-1)
