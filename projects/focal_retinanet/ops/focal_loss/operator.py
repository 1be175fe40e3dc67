"""The fused focal loss as an operator of PyTorch, for traced programs.

``torch.compile``, ``torch.export`` and ``torch.jit.trace`` see one node,
``focal_retinanet::sigmoid_focal_loss_sum``, and its shapes. The node calls the same
kernels when the program runs. A saved program needs ``import focal_retinanet.ops``
before it is loaded.

A traced program may run on tensors of another layout than those it was traced with, and
what had nothing to convert is no part of it. So the operator takes any layout.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from focal_retinanet.ops.focal_loss.backends import compute_gradient, compute_loss
from focal_retinanet.ops.focal_loss.terms import FocalTerms, in_one_layout

_ARGUMENTS = (
    'Tensor[] levels, Tensor targets, Tensor? weights, Tensor alpha_pos, '
    'Tensor alpha_neg, Tensor scale, float gamma, float label_smoothing, '
    'int ignore_index'
)


def is_available() -> bool:
    """Whether this torch has operators written in Python (2.4 or later)."""
    return hasattr(torch.library, 'custom_op')


def focal_loss_sum(
    levels: Sequence[Tensor], terms: FocalTerms, scale: float | Tensor
) -> Tensor:
    """Return the loss times ``scale``, a scalar, differentiable once.

    Args:
        levels: Logits (B, A*K, H, W) of each level.
        terms: Targets, weights and parameters.
        scale: Factor, a number or a scalar tensor.
    """
    if not isinstance(scale, Tensor):
        scale = torch.full(
            (), scale, dtype=terms.alpha_pos.dtype, device=levels[0].device
        )
    arguments = (
        levels,
        terms.targets,
        terms.weights,
        terms.alpha_pos,
        terms.alpha_neg,
        scale.detach(),
        terms.gamma,
        terms.label_smoothing,
        terms.ignore_index,
    )
    return torch.ops.focal_retinanet.sigmoid_focal_loss_sum(*arguments)


def _loss(levels, targets, weights, alpha_pos, alpha_neg, scale, *parameters):
    terms = _terms(targets, weights, alpha_pos, alpha_neg, *parameters)
    return compute_loss(in_one_layout(levels), terms, scale)


def _gradient(
    grad_output, levels, targets, weights, alpha_pos, alpha_neg, scale, *parameters
):
    terms = _terms(targets, weights, alpha_pos, alpha_neg, *parameters)
    factor = (grad_output * scale).to(alpha_pos.dtype)
    grads = compute_gradient(in_one_layout(levels), terms, factor)
    # The layout that the program was told, which differs where a level was copied.
    promised = [torch.empty_like(level) for level in levels]
    return [
        grad if grad.stride() == other.stride() else other.copy_(grad)
        for grad, other in zip(grads, promised, strict=True)
    ]


def _terms(targets, weights, *others):
    if weights is not None:
        weights = weights.contiguous()
    return FocalTerms(targets.contiguous(), weights, *others)


def _remember(ctx, inputs, output):
    levels, *others, gamma, label_smoothing, ignore_index = inputs
    ctx.parameters = gamma, label_smoothing, ignore_index
    ctx.has_weights = others[1] is not None
    tensors = [tensor for tensor in others if tensor is not None]
    ctx.num_levels = len(levels)
    ctx.save_for_backward(*levels, *tensors)


def _backward(ctx, grad_output):
    levels = list(ctx.saved_tensors[: ctx.num_levels])
    others = list(ctx.saved_tensors[ctx.num_levels :])
    if not ctx.has_weights:
        others.insert(1, None)
    # This operator has no derivative, so a second backward pass is an error.
    operator = torch.ops.focal_retinanet.sigmoid_focal_loss_sum_backward
    grads = operator(grad_output, levels, *others, *ctx.parameters)
    return grads, *[None] * 8


if is_available():
    _loss_operator = torch.library.custom_op(
        'focal_retinanet::sigmoid_focal_loss_sum',
        _loss,
        mutates_args=(),
        schema=f'({_ARGUMENTS}) -> Tensor',
    )
    _loss_operator.register_fake(
        lambda levels, targets, weights, alpha_pos, *_: alpha_pos.new_empty(())
    )
    _loss_operator.register_autograd(_backward, setup_context=_remember)
    _gradient_operator = torch.library.custom_op(
        'focal_retinanet::sigmoid_focal_loss_sum_backward',
        _gradient,
        mutates_args=(),
        schema=f'(Tensor grad_output, {_ARGUMENTS}) -> Tensor[]',
    )
    _gradient_operator.register_fake(
        lambda grad_output, levels, *_: [torch.empty_like(level) for level in levels]
    )
