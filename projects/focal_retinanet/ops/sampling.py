"""Minibatches of hard examples: what the focal loss makes unnecessary (5.2).

Each function takes the anchors of one image and says which of them have a
classification loss. An anchor's loss is summed over the classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor

# For boxes (n, 4) and scores (n,): indices that stay, best score first.
NMS = Callable[[Tensor, Tensor], Tensor]


def hard_negatives(
    losses: Tensor, is_positive: Tensor, is_ignored: Tensor, neg_pos_ratio: float
) -> Tensor:
    """All positives and the negatives of highest loss, as SSD trains.

    Args:
        losses: (N,) of each anchor.
        is_positive: (N,) bool.
        is_ignored: (N,) bool, never kept.
        neg_pos_ratio: most negatives kept for each positive.

    Returns:
        (N,) bool, which anchors are kept.
    """
    is_negative = ~(is_positive | is_ignored)
    limit = min(int(neg_pos_ratio * is_positive.sum()), int(is_negative.sum()))
    kept = is_positive.clone()
    kept[losses.masked_fill(~is_negative, -torch.inf).topk(limit).indices] = True
    return kept


def hardest_after_nms(
    losses: Tensor,
    bboxes: Tensor,
    is_positive: Tensor,
    is_ignored: Tensor,
    num: int,
    nms: NMS,
    neg_pos_ratio: float | None = None,
) -> Tensor:
    """Online hard example mining: the hardest anchors that NMS leaves (table 1d).

    Args:
        losses: (N,) of each anchor; it is the score for the NMS.
        bboxes: (N, 4) xyxy, the predicted boxes.
        is_positive: (N,) bool.
        is_ignored: (N,) bool, left out before the NMS.
        num: size of the minibatch.
        nms: suppresses the boxes that overlap one of higher score.
        neg_pos_ratio: None, or r for a minibatch of at most num / (1 + r)
            positives and of r negatives for each of them (r, if there is no
            positive).

    Returns:
        (N,) bool, which anchors are kept.
    """
    if neg_pos_ratio is not None:
        max_positives = int(num / (1 + neg_pos_ratio))
    order = losses.masked_fill(is_ignored, -torch.inf).argsort(
        descending=True, stable=True
    )[: int((~is_ignored).sum())]
    ordered_positive = is_positive[order]
    num_positives = int(ordered_positive.sum())
    # Whether a box stays depends on those before it alone, so what NMS leaves
    # of the first anchors is the beginning of what it leaves of all.
    length = 0
    while True:
        length = min(max(4 * num, 4 * length), len(order))
        rank = torch.arange(length, dtype=torch.float32, device=losses.device)
        survivors = nms(bboxes[order[:length]], -rank)
        is_last = length == len(order)
        if neg_pos_ratio is None:
            if len(survivors) >= num or is_last:
                kept = survivors[:num]
                break
            continue
        of_positives = survivors[ordered_positive[survivors]]
        of_negatives = survivors[~ordered_positive[survivors]]
        all_seen = is_last or int(ordered_positive[:length].sum()) == num_positives
        if len(of_positives) < max_positives and not all_seen:
            continue
        of_positives = of_positives[:max_positives]
        max_negatives = int(neg_pos_ratio * max(len(of_positives), 1))
        if len(of_negatives) >= max_negatives or is_last:
            kept = torch.cat([of_positives, of_negatives[:max_negatives]])
            break
    mask = torch.zeros_like(is_positive)
    mask[order[kept]] = True
    return mask
