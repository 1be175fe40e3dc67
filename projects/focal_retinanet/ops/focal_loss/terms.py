"""What defines the fused focal loss besides the logits; all backends take it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class FocalTerms:
    """Targets, weights and parameters of the loss of B images.

    Attributes:
        targets: (B, N) int64 class indices of all levels' anchors, K for
            background; contiguous.
        weights: (B, N) fp32 (fp64 for fp64 logits) weight of each anchor, or
            None; contiguous.
        alpha_pos: (K,) a_t where y = 1; fp32 (fp64 for fp64 logits).
        alpha_neg: (K,) a_t where y = 0, likewise.
        gamma: focusing parameter.
        label_smoothing: epsilon.
        ignore_index: target without a loss.
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
    """Anchors of an image in the logits (B, A*K, H, W) of a level."""
    _, channels, height, width = level.shape
    return height * width * (channels // num_classes)
