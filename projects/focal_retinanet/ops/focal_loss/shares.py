"""Which anchors a classification loss comes from: the imbalance of section 3."""

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
    """Parts of the loss, from 0 to 1, that sum to 1.

    A negative is easy where it is well classified: p_t > 0.5 (section 3.2) for
    all its classes.

    Args:
        levels: logits of each level, (B, A*K, H, W) of K binary classifiers, or
            (B, A*(K + 1), H, W) of a softmax whose last channel is the background.
        labels: (B, N) int64, for the anchors of all levels: class, K for
            background, -1 for ignored.
        num_classes: K.
        losses: (B, N) of each anchor, over its classes.

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
    """Whether a background there would be well classified, (B, n) of each level."""
    cells = sum(level[0, 0].numel() for level in levels)
    anchors_per_cell = labels.size(1) // max(cells, 1)
    flags = []
    for level in levels:
        batch, channels, height, width = level.shape
        of_anchor = channels // anchors_per_cell
        maps = level.reshape(batch, anchors_per_cell, of_anchor, height * width)
        if of_anchor == num_classes:
            is_easy = maps.amax(dim=2) < 0  # p < 0.5 for every class
        else:
            # Image by image: a softmax is as large as the maps.
            backgrounds = [image.softmax(dim=1)[:, -1] for image in maps]
            is_easy = torch.stack(backgrounds) > 0.5
        flags.append(is_easy.transpose(1, 2).flatten(1))  # (B, cells * A)
    return flags
