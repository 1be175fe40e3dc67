"""Shares of the classification loss: the imbalance of section 3, measured."""

from collections.abc import Sequence

import torch
from torch import Tensor

from focal_retinanet.ops.matching.max_iou import IGNORED


def loss_shares(
    levels: Sequence[Tensor],
    labels: Tensor,
    num_classes: int,
    losses: Tensor,
) -> dict[str, Tensor]:
    """Return the shares of positives, easy and hard negatives, which sum to 1.

    A negative is easy if it is well classified, p_t > 0.5 (section 3.2), for all
    classes.

    Args:
        levels: Logits of each level, (B, A*K, H, W) of K binary classifiers, or
            (B, A*(K + 1), H, W) of a softmax whose last channel is the background.
        labels: Labels (B, N) of the anchors of all levels, int64: class, K for
            background, -1 for ignored.
        num_classes: Number of classes K.
        losses: Loss (B, N) of each anchor, summed over its classes.

    Returns:
        Scalars ``pos_share``, ``easy_neg_share`` and ``hard_neg_share``.
    """
    is_easy = torch.cat(_easy_of_each_level(levels, labels, num_classes), dim=1)
    positive = (labels != IGNORED) & (labels < num_classes)
    negative = labels == num_classes
    groups = dict(
        pos_share=positive,
        easy_neg_share=negative & is_easy,
        hard_neg_share=negative & ~is_easy,
    )
    parts = {
        name: torch.where(group, losses, 0).sum() for name, group in groups.items()
    }
    total = sum(parts.values())
    total = total.clamp(min=torch.finfo(total.dtype).tiny)
    return {name: part / total for name, part in parts.items()}


def _easy_of_each_level(
    levels: Sequence[Tensor], labels: Tensor, num_classes: int
) -> list[Tensor]:
    """Return for each level which anchors are easy as background, (B, n) bool."""
    cells = sum(level[0, 0].numel() for level in levels)
    anchors_per_cell = labels.size(1) // max(cells, 1)
    flags = []
    for level in levels:
        batch, channels, height, width = level.shape
        logits_per_anchor = channels // anchors_per_cell
        maps = level.reshape(batch, anchors_per_cell, logits_per_anchor, height * width)
        if logits_per_anchor == num_classes:
            is_easy = maps.amax(dim=2) < 0  # p < 0.5 for every class
        else:
            # Image by image, because a softmax is as large as the maps.
            backgrounds = [image.softmax(dim=1)[:, -1] for image in maps]
            is_easy = torch.stack(backgrounds) > 0.5
        flags.append(is_easy.transpose(1, 2).flatten(1))  # (B, cells * A)
    return flags
