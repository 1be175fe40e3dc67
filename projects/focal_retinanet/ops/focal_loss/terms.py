"""Inputs of the fused focal loss, as all backends take them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FocalTerms:
    """Targets, weights and parameters of the loss of B images.

    Attributes:
        targets: Class indices (B, N) of the anchors of all levels, int64, contiguous,
            K for background.
        weights: Weights (B, N) of the anchors, fp32 (fp64 for fp64 logits),
            contiguous; or None.
        alpha_pos: a_t (K,) for y = 1, fp32 (fp64 for fp64 logits).
        alpha_neg: a_t (K,) for y = 0, likewise.
        gamma: Focusing parameter.
        label_smoothing: Epsilon.
        ignore_index: Target of anchors without a loss.
    """

    targets: Tensor
    weights: Tensor | None
    alpha_pos: Tensor
    alpha_neg: Tensor
    gamma: float
    label_smoothing: float
    ignore_index: int

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.alpha_pos)


def count_anchors(level: Tensor, num_classes: int) -> int:
    """Return the number of anchors per image in logits (B, A*K, H, W) of a level."""
    _, channels, height, width = level.shape
    return height * width * (channels // num_classes)


def in_one_layout(levels: Sequence[Tensor]) -> list[Tensor]:
    """Return the maps, copied unless all are contiguous or all are channels-last."""
    for layout in (torch.contiguous_format, torch.channels_last):
        if all(level.is_contiguous(memory_format=layout) for level in levels):
            return list(levels)
    return [level.contiguous() for level in levels]
