"""A second derivative that nobody has computed is an error, not zero."""

from collections.abc import Sequence

import torch
from torch import Tensor


def refuse_second_derivative(grads: Sequence[Tensor | None]) -> list[Tensor | None]:
    """What a backward pass returns under ``create_graph=True``.

    torch's own ``once_differentiable`` looks at the upstream gradient alone. Where
    that is a constant, as that of ``loss.backward(create_graph=True)`` is, the
    result would be taken for a constant too.

    Args:
        grads: the gradients; None stays.

    Returns:
        The same values. To differentiate them raises a RuntimeError.
    """
    if not torch.is_grad_enabled():
        return list(grads)
    return [
        None if grad is None else _Once.apply(grad.detach().requires_grad_())
        for grad in grads
    ]


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, grad):
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx, grad_output):
        raise RuntimeError(
            'a fast path of focal_retinanet is differentiable once, and its second '
            'derivative was asked for; plain PyTorch has it: for the loss, '
            'focal_retinanet.ops.sigmoid_focal_loss, for convolutions, a config '
            'without winograd'
        )
