"""The classification loss of each anchor, by any loss of mmdet's."""

from collections.abc import Sequence

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

    Memory does not grow with the number of logits: the maps are taken level by
    level, image by image, some anchors at a time.

    Args:
        loss_cls: called with logits (n, channels), labels (n,) and
            ``reduction_override='none'``.
        cls_scores: logits of each level, (B, A*channels, H, W).
        labels: (B, N) int64 for the anchors of all levels: class, the highest class
            plus one for background, -1 for ignored.
        channels: K, or K + 1 for a softmax.

    Returns:
        (B, N) fp32, 0 for what is ignored.
    """
    # Any loss will do here, so the ignored have a label that each knows.
    targets = torch.where(labels == IGNORED, 0, labels)
    losses = torch.empty(labels.shape, dtype=torch.float32, device=labels.device)
    step = max(1, _CHUNK // channels)
    first_anchor = 0
    for maps in cls_scores:
        anchors = maps[0].numel() // channels
        for b, image in enumerate(maps):
            # A view where the map is channels-last.
            logits = image.permute(1, 2, 0).reshape(anchors, channels)
            for start in range(0, anchors, step):
                stop = min(start + step, anchors)
                part = slice(first_anchor + start, first_anchor + stop)
                loss = loss_cls(
                    logits[start:stop], targets[b, part], reduction_override='none'
                )
                losses[b, part] = loss.reshape(stop - start, -1).sum(dim=1)
        first_anchor += anchors
    return losses.masked_fill_(labels == IGNORED, 0)
