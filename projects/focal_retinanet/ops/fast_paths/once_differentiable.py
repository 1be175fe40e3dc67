"""A second derivative that a fast path does not have is an error, not zero."""

from collections.abc import Sequence

import torch
from torch import Tensor


def refuse_second_derivative(grads: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return gradients of a backward pass that cannot be differentiated again.

    ``torch.autograd.function.once_differentiable`` only looks at the upstream gradient.
    If that is a constant, as in ``loss.backward(create_graph=True)``, it takes the
    result for a constant too, and the second derivative is silently zero.

    Args:
        grads: Gradients; None stays None.

    Returns:
        The same values. Differentiating them raises a RuntimeError.
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
            'the fused focal loss has no second derivative; use '
            'focal_retinanet.ops.sigmoid_focal_loss for the loss of each element'
        )
