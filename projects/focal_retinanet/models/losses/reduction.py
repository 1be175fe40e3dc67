"""How a loss of many elements becomes a number, as in mmdet's losses."""

import torch
from torch import Tensor

REDUCTIONS = ('none', 'mean', 'sum')
# mmdet's guard, so that no positives at all do not divide by zero.
EPS = torch.finfo(torch.float32).eps


class LossArgumentError(ValueError, AssertionError):
    """A wrong argument. mmdet's losses raise now the one, now the other, for these."""


def check_reduction(reduction: str) -> None:
    """Check a name.

    Raises:
        LossArgumentError: there is no such reduction.
    """
    if reduction not in REDUCTIONS:
        raise LossArgumentError(
            f'reduction must be one of {REDUCTIONS}, got {reduction!r}'
        )


def choose_reduction(
    reduction: str, override: str | None, avg_factor: float | Tensor | None
) -> str:
    """The reduction of one call.

    Raises:
        LossArgumentError: there is no such reduction, or ``avg_factor`` with 'sum'.
    """
    if override is not None:
        reduction = override
    check_reduction(reduction)
    if reduction == 'sum' and avg_factor is not None:
        raise LossArgumentError('avg_factor cannot be used with reduction="sum"')
    return reduction


def reduce_loss(
    loss: Tensor,
    reduction: str,
    avg_factor: float | Tensor | None,
    ignored: Tensor | None,
) -> Tensor:
    """The weighted loss as it is, its mean or its sum.

    Args:
        loss: (N, K), or (N,) for a softmax, or of any shape without ``ignored``.
        reduction: 'none', 'mean' or 'sum'.
        avg_factor: what 'mean' divides the sum by. Default: the number of
            elements that are not ignored, at least 1.
        ignored: (N,) bool, or None.

    Returns:
        ``loss``, or a scalar.
    """
    if reduction == 'none':
        return loss
    if reduction == 'sum':
        return loss.sum()
    if avg_factor is not None:
        return loss.sum() / (avg_factor + EPS)
    if ignored is None:
        return loss.sum() / max(loss.numel(), 1)
    elements_per_row = loss.size(1) if loss.dim() == 2 else 1
    return loss.sum() / ((~ignored).sum() * elements_per_row).clamp(min=1)


def ignored_rows(pred: Tensor, target: Tensor, ignore_index: int) -> Tensor | None:
    """Which targets are ignored, (N,) bool; None where they are no indices."""
    return None if target.shape == pred.shape else target == ignore_index


def broadcast_weight(weight: Tensor, loss: Tensor) -> Tensor:
    """Weight of each anchor or element, in a shape that multiplies loss.

    Raises:
        LossArgumentError: it fits neither.
    """
    if weight.shape == loss.shape:
        return weight
    if loss.dim() == 2 and weight.shape in (loss.shape[:1], (loss.size(0), 1)):
        return weight.reshape(-1, 1)
    if weight.numel() == loss.numel():
        return weight.reshape(loss.shape)
    raise LossArgumentError(
        f'weight of shape {tuple(weight.shape)} fits neither the anchors nor the '
        f'elements of a loss of shape {tuple(loss.shape)}'
    )
