"""The classification loss of each anchor, by any loss of mmdet's."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from focal_retinanet.ops.matching import IGNORED

# Logits at a time: a loss of each element keeps several tensors of this size.
_CHUNK = 2**20


@torch.no_grad()
def anchor_losses(
    loss_cls: nn.Module, cls_scores: Sequence[Tensor], labels: Tensor, channels: int
) -> Tensor:
    """Loss of each anchor, over its classes, not averaged.

    Memory does not grow with the number of logits: the maps are taken image by
    image, level by level, some cells at a time.

    Args:
        loss_cls: called with logits (n, channels), labels (n,) and
            ``reduction_override='none'``; one whose elements do not depend on
            each other.
        cls_scores: logits of each level, (B, A*channels, H, W), any floating
            dtype; the loss is given fp32, or fp64 for fp64.
        labels: (B, N) int64 for the anchors of all levels: class, the highest class
            plus one for background, -1 for ignored.
        channels: K, or K + 1 for a softmax.

    Returns:
        (B, N) fp32, 0 for what is ignored.
    """
    # Any loss will do here, so the ignored have a label that each knows.
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
    """Logits (n, channels) of the anchors of an image, in their order."""
    for level in maps:
        cells = level[image].flatten(1).t()  # (H*W, A*channels)
        for part in cells.split(max(1, _CHUNK // cells.size(1))):
            # Half precision would cost the sum over the classes its digits.
            part = part if part.dtype == torch.float64 else part.float()
            yield part.reshape(-1, channels)
