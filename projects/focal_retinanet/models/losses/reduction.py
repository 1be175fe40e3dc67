"""Weights and reductions of losses, as in mmdet."""

import torch
from torch import Tensor

from focal_retinanet.ops.focal_loss.definition import scaled

REDUCTIONS = ('none', 'mean', 'sum')
# mmdet's guard against a division by zero in a batch without positives.
EPS = torch.finfo(torch.float32).eps


class LossArgumentError(ValueError, AssertionError):
    """A wrong argument. For these, mmdet raises either of the two."""


def check_reduction(reduction: str) -> None:
    """Check the name of a reduction.

    Raises:
        LossArgumentError: There is no such reduction.
    """
    if reduction not in REDUCTIONS:
        raise LossArgumentError(
            f'reduction must be one of {REDUCTIONS}, got {reduction!r}'
        )


def choose_reduction(
    reduction: str, override: str | None, avg_factor: float | Tensor | None
) -> str:
    """Return the reduction of one call.

    Raises:
        LossArgumentError: There is no such reduction, or ``avg_factor`` is given
            with 'sum'.
    """
    if override is not None:
        reduction = override
    check_reduction(reduction)
    if reduction == 'sum' and avg_factor is not None:
        raise LossArgumentError('avg_factor cannot be used with reduction="sum"')
    return reduction


def reduce_loss(
    loss: Tensor,
    weight: Tensor | None,
    reduction: str,
    avg_factor: float | Tensor | None,
    ignored: Tensor | None,
) -> Tensor:
    """Return the weighted loss, its mean or its sum.

    Args:
        loss: Loss (N, K), or (N,) for a softmax, or of any shape without ``ignored``.
        weight: Weight of each anchor or element, or None.
        reduction: 'none', 'mean' or 'sum'.
        avg_factor: See :func:`loss_divisor`.
        ignored: Mask (N,), bool, of ignored anchors, or None.

    Returns:
        Scalar, or a tensor of ``loss``'s shape with 'none'.

    Raises:
        LossArgumentError: ``weight`` fits neither the anchors nor the elements.
    """
    if weight is not None:
        loss = scaled(loss, _broadcast_weight(weight, loss))
    if reduction == 'none':
        return loss
    return loss.sum() / loss_divisor(loss, reduction, avg_factor, ignored)


def loss_divisor(
    elements: Tensor,
    reduction: str,
    avg_factor: float | Tensor | None,
    ignored: Tensor | None,
) -> float | Tensor:
    """Return the number by which 'mean' or 'sum' divides the sum of a loss.

    Args:
        elements: Loss, or any tensor of its shape, see :func:`reduce_loss`.
        reduction: 'mean' or 'sum'.
        avg_factor: Divisor of 'mean'. If None, the number of elements that are not
            ignored, at least 1.
        ignored: Mask (N,), bool, of ignored anchors, or None.
    """
    if reduction == 'sum':
        return 1.0
    if avg_factor is not None:
        return avg_factor + EPS
    if ignored is None:
        return max(elements.numel(), 1)
    elements_per_row = elements.size(1) if elements.dim() == 2 else 1
    return ((~ignored).sum() * elements_per_row).clamp(min=1)


def ignored_rows(pred: Tensor, target: Tensor, ignore_index: int) -> Tensor | None:
    """Return the mask (N,) of ignored targets; None if targets are not indices."""
    if target.shape == pred.shape:
        return None
    return target.to(torch.int64) == ignore_index  # uint8 has no -1


def _broadcast_weight(weight: Tensor, loss: Tensor) -> Tensor:
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
