"""Rivals of the focal loss that the paper compares it with.

They are FL* (appendix A), the hinge loss (section 5.1), and minibatches of hard
examples (section 5.2), which the focal loss makes unnecessary.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from focal_retinanet.ops.focal_loss.definition import (
    Alpha,
    alpha_t,
    binary_targets,
    scaled,
)

#: Maps boxes (n, 4) and scores (n,) to the indices that stay, best score first.
NMS = Callable[[Tensor, Tensor], Tensor]


def focal_loss_star(
    logits: Tensor,
    targets: Tensor,
    gamma: float = 2.0,
    beta: float = 1.0,
    alpha: Alpha = 0.25,
    ignore_index: int = -1,
) -> Tensor:
    """FL* of K independent binary classifiers (appendix A).

    With ``x_t = x`` if y = 1 and ``x_t = -x`` otherwise::

        p*_t = sigmoid(gamma * x_t + beta)
        FL*  = -a_t * log(p*_t) / gamma

    Args:
        logits: Logits (N, K), any floating dtype. The arithmetic is in fp32, or in
            fp64 for fp64 logits.
        targets: Class indices (N,), integers, K for background; or labels of the
            logits' shape, which may then be any shape.
        gamma: Steepness, > 0.
        beta: Shift.
        alpha: Weight of y = 1, see
            :func:`~focal_retinanet.ops.focal_loss.sigmoid_focal_loss`.
        ignore_index: Target of the rows without a loss.

    Returns:
        Loss of each anchor and class, of the logits' shape, fp32 (fp64 for fp64
        logits).

    Raises:
        ValueError: Shapes do not fit, ``alpha`` is not in [0, 1], or (on a CPU) an
            index is not in 0..K.
    """
    x, y, ignored = binary_targets(logits, targets, ignore_index)
    loss_pos = F.softplus(-(gamma * x + beta))  # y = 1, x_t = x
    loss_neg = F.softplus(-(beta - gamma * x))  # y = 0, x_t = -x
    loss = (scaled(loss_pos, y) + scaled(loss_neg, 1 - y)) / gamma
    if alpha is not None:
        loss = scaled(loss, alpha_t(alpha, y))
    return loss if ignored is None else loss.masked_fill(ignored, 0)


def hinge_loss(
    logits: Tensor,
    targets: Tensor,
    margin: float = 0.5,
    alpha: Alpha = 0.5,
    ignore_index: int = -1,
) -> Tensor:
    """Hinge loss ``a_t * max(0, margin - p_t)`` of K binary classifiers (section 5.1).

    The paper only says that the loss is 0 above a certain p_t, which is the margin
    here. Its authors could not train with it.

    Args:
        logits: See :func:`focal_loss_star`, as for ``targets``, ``alpha`` and
            ``ignore_index``.
        margin: p_t above which the loss is 0, in (0, 1].

    Returns:
        Loss of each anchor and class, of the logits' shape, fp32 (fp64 for fp64
        logits).

    Raises:
        ValueError: Shapes do not fit, ``alpha`` is not in [0, 1], or (on a CPU) an
            index is not in 0..K.
    """
    x, y, ignored = binary_targets(logits, targets, ignore_index)
    p = x.sigmoid()
    p_t = y * p + (1 - y) * (1 - p)
    loss = (margin - p_t).clamp(min=0)
    if alpha is not None:
        loss = alpha_t(alpha, y) * loss
    return loss if ignored is None else loss.masked_fill(ignored, 0)


def hard_negatives(
    losses: Tensor, is_positive: Tensor, is_ignored: Tensor, neg_pos_ratio: float
) -> Tensor:
    """Keep all positives and the negatives of highest loss, as SSD does.

    Args:
        losses: Loss (N,) of each anchor of an image, summed over the classes.
        is_positive: Mask (N,), bool.
        is_ignored: Mask (N,), bool, of anchors that are never kept.
        neg_pos_ratio: Highest number of negatives per positive.

    Returns:
        Mask (N,), bool, of the anchors that have a classification loss.
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
    """Keep the hardest anchors after NMS: online hard example mining (table 1d).

    Args:
        losses: Loss (N,) of each anchor of an image, summed over the classes. It is
            the score for NMS.
        bboxes: Predicted boxes (N, 4), xyxy.
        is_positive: Mask (N,), bool.
        is_ignored: Mask (N,), bool, of anchors that are left out before NMS.
        num: Size of the minibatch.
        nms: Function that suppresses boxes that overlap one of higher score.
        neg_pos_ratio: If given, the minibatch has at most num / (1 + r) positives and
            r negatives for each of them (r without a positive).

    Returns:
        Mask (N,), bool, of the anchors that have a classification loss.
    """
    if neg_pos_ratio is not None:
        max_positives = int(num / (1 + neg_pos_ratio))
    order = losses.masked_fill(is_ignored, -torch.inf).argsort(
        descending=True, stable=True
    )[: int((~is_ignored).sum())]
    ordered_positive = is_positive[order]
    num_positives = int(ordered_positive.sum())
    # A box is only suppressed by those before it, so NMS of the first anchors gives
    # the beginning of the result for all anchors.
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
