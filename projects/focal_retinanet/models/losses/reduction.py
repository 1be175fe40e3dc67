"""How a loss of many elements becomes a number, as in mmdet's losses."""

import torch
from torch import Tensor

REDUCTIONS = ('none', 'mean', 'sum')
# mmdet's guard, so that no positives at all do not divide by zero.
EPS = torch.finfo(torch.float32).eps


def check_reduction(reduction: str, avg_factor: float | Tensor | None = None) -> None:
    """Check the arguments of a loss.

    Raises:
        ValueError: an unknown reduction, or ``avg_factor`` with 'sum'.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f'reduction must be one of {REDUCTIONS}, got {reduction!r}')
    if reduction == 'sum' and avg_factor is not None:
        raise ValueError('avg_factor can not be used with reduction="sum"')


def reduce_loss(
    loss: Tensor,
    target: Tensor,
    reduction: str,
    avg_factor: float | Tensor | None,
    ignore_index: int,
) -> Tensor:
    """The weighted loss as it is, its mean or its sum.

    Args:
        loss: (N, K), or (N,) for a softmax.
        target: (N,) indices, or one-hot.
        reduction: 'none', 'mean' or 'sum'.
        avg_factor: what 'mean' divides the sum by. Default: the number of
            elements that are not ignored.
        ignore_index: index of the targets that have no loss.

    Returns:
        ``loss``, or a scalar.
    """
    if reduction == 'none':
        return loss
    if reduction == 'sum':
        return loss.sum()
    if avg_factor is not None:
        return loss.sum() / (avg_factor + EPS)
    if target.dim() == 1:
        rows = (target != ignore_index).sum()
        elements_per_row = loss.size(1) if loss.dim() == 2 else 1
        return loss.sum() / (rows * elements_per_row).clamp(min=1)
    return loss.mean()


def broadcast_weight(weight: Tensor, loss: Tensor) -> Tensor:
    """Weight of each anchor or element, in a shape that multiplies loss.

    Raises:
        ValueError: it fits neither.
    """
    if weight.shape == loss.shape:
        return weight
    if loss.dim() == 2 and weight.shape in (loss.shape[:1], (loss.size(0), 1)):
        return weight.reshape(-1, 1)
    if weight.numel() == loss.numel():
        return weight.reshape(loss.shape)
    raise ValueError(
        f'weight of shape {tuple(weight.shape)} fits neither the anchors nor the '
        f'elements of a loss of shape {tuple(loss.shape)}'
    )
