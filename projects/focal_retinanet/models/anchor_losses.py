"""Classification loss of each anchor for any loss with mmdet's interface."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from focal_retinanet.ops.matching import IGNORED

# Logits at a time. A loss without reduction allocates several tensors of this size.
_CHUNK = 2**20


@torch.no_grad()
def anchor_losses(
    loss_cls: nn.Module, cls_scores: Sequence[Tensor], labels: Tensor, channels: int
) -> Tensor:
    """Return the loss of each anchor, summed over its classes, without gradient.

    Memory does not grow with the number of logits, because the loss is computed for
    some cells of one image and level at a time.

    Args:
        loss_cls: Loss that takes logits (n, channels), labels (n,) and
            ``reduction_override='none'``. The losses of anchors must not depend on each
            other.
        cls_scores: Logits (B, A*channels, H, W) of each level, any floating dtype. The
            loss gets them in fp32, or in fp64 for fp64.
        labels: Labels (B, N), int64, of the anchors of all levels: a class 0..K-1, K
            for background, -1 for ignored.
        channels: K, or K + 1 for a softmax.

    Returns:
        (B, N) fp32, 0 for ignored anchors.
    """
    # -1 is not a valid label for every loss. The result is masked below.
    targets = torch.where(labels == IGNORED, 0, labels)
    losses = torch.empty(labels.shape, dtype=torch.float32, device=labels.device)
    for b in range(len(labels)):
        first = 0
        for logits in _chunks(cls_scores, b, channels):
            part = slice(first, first + len(logits))
            loss = loss_cls(logits, targets[b, part], reduction_override='none')
            losses[b, part] = loss.reshape(len(logits), -1).sum(dim=1)
            first = part.stop
    return losses.masked_fill_(labels == IGNORED, 0)


def _chunks(maps: Sequence[Tensor], image: int, channels: int) -> Iterator[Tensor]:
    """Yield logits (n, channels) of the anchors of an image, in their order."""
    for level in maps:
        cells = level[image].flatten(1).t()  # (H*W, A*channels)
        for part in cells.split(max(1, _CHUNK // cells.size(1))):
            # Half precision is too coarse for the sum over the classes.
            part = part if part.dtype == torch.float64 else part.float()
            yield part.reshape(-1, channels)
