"""Which anchors a classification loss comes from: the imbalance of section 3."""

import torch
from torch import Tensor

from focal_retinanet.ops.matching import IGNORED


def loss_shares(
    losses: Tensor, logits: Tensor, labels: Tensor, num_classes: int
) -> dict[str, Tensor]:
    """Parts of the loss, from 0 to 1, that sum to 1.

    A negative is easy where it is well classified: p_t > 0.5 (section 3.2) for
    all its classes.

    Args:
        losses: (N,) of each anchor, 0 for what is ignored.
        logits: (N, K) of K binary classifiers, or (N, K + 1) of a softmax whose
            last channel is the background.
        labels: (N,) int64: class, K for background, -1 for ignored.
        num_classes: K.

    Returns:
        Scalars ``pos_share``, ``easy_neg_share`` and ``hard_neg_share``.
    """
    if logits.size(1) == num_classes:
        is_easy = (logits < 0).all(dim=1)
    else:
        is_easy = logits.softmax(dim=1)[:, -1] > 0.5
    positive = (labels != IGNORED) & (labels < num_classes)
    parts = dict(
        pos_share=losses[positive].sum(),
        easy_neg_share=losses[~positive & is_easy].sum(),
        hard_neg_share=losses[~positive & ~is_easy].sum(),
    )
    total = sum(parts.values()).clamp(min=torch.finfo(losses.dtype).tiny)
    return {name: part / total for name, part in parts.items()}
