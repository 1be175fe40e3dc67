"""The sum of the focal loss over all levels at once, without its elements.

A detector needs one number and its gradient. Both are computed from index targets and
from the maps of the head as they are: without one-hot targets, without the loss of each
element, and without permuted copies. A backend computes them, see
:mod:`focal_retinanet.ops.focal_loss.backends`. While a program is traced
(``torch.compile``, ``torch.export``, ``torch.jit.trace``), the loss is one operator, see
:mod:`focal_retinanet.ops.focal_loss.operator`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from focal_retinanet.ops.fast_paths.eager import (
    has_tangents,
    is_compiling,
    is_eager,
    is_graph_kept,
    is_transformed,
)
from focal_retinanet.ops.fast_paths.once_differentiable import refuse_second_derivative
from focal_retinanet.ops.focal_loss import backends, operator
from focal_retinanet.ops.focal_loss.definition import (
    Alpha,
    alpha_tensor,
    check_alpha,
    check_indices,
    scaled,
    sigmoid_focal_loss,
)
from focal_retinanet.ops.focal_loss.terms import (
    FocalTerms,
    count_anchors,
    in_one_layout,
)


def sigmoid_focal_loss_sum(
    levels: Sequence[Tensor],
    targets: Tensor,
    num_classes: int,
    weights: Tensor | None = None,
    scale: float | Tensor = 1.0,
    gamma: float = 2.0,
    alpha: Alpha = 0.25,
    label_smoothing: float = 0.0,
    ignore_index: int = -1,
) -> Tensor:
    """Return the weighted sum of the focal loss over anchors and classes (section 3.2).

    Args:
        levels: Logits (B, A*K, H, W) of each level, contiguous or channels-last (other
            layouts are copied), any floating dtype. The arithmetic is in fp32, or in
            fp64 for fp64 logits.
        targets: Class indices (B, N) of the N anchors of all levels, integers: level
            by level, row by row, and the A anchors of a cell together. K is
            background.
        num_classes: Number of classes K.
        weights: Weights (B, N) of the anchors.
        scale: Factor of the result, a number or a scalar tensor. In a detector, it is
            one over the number of positives.
        gamma: Focusing parameter, >= 0.
        alpha: Weight of y = 1 in [0, 1], with 1 - alpha for y = 0: a number, K numbers
            or None.
        label_smoothing: Epsilon, for the cross entropy only.
        ignore_index: Target of anchors without a loss.

    Returns:
        Scalar, fp32 (fp64 for fp64 logits), differentiable once. If ``weights`` or
        ``scale`` require a gradient, or derivatives are computed in forward mode, the
        definition computes it, in more time and memory.

    Raises:
        ValueError: Levels differ in more than their height and width, shapes or
            devices do not fit, a weight is negative, or (on a CPU) an index is not in
            0..K.
    """
    levels, terms = _prepare(
        levels,
        targets,
        num_classes,
        weights,
        gamma=gamma,
        alpha=alpha,
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
    )
    if _needs_definition(levels, weights, scale):
        return _by_definition(levels, terms, scale)
    if is_eager(*levels, targets, weights):
        # Inside the autograd function, gradients are always disabled.
        needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in levels)
        return _FusedFocalLoss.apply(terms, scale, needs_grad, *levels)
    if operator.is_available() and not is_transformed():
        return operator.focal_loss_sum(levels, terms, scale)
    return _by_definition(levels, terms, scale)


def sigmoid_focal_loss_of_anchors(
    levels: Sequence[Tensor],
    targets: Tensor,
    num_classes: int,
    gamma: float = 2.0,
    alpha: Alpha = 0.25,
    label_smoothing: float = 0.0,
    ignore_index: int = -1,
) -> Tensor:
    """Return the focal loss of each anchor, summed over its classes, without gradient.

    Args:
        levels: See :func:`sigmoid_focal_loss_sum`, as for all other arguments.

    Returns:
        Loss (B, N), fp32 (fp64 for fp64 logits), 0 for ignored anchors.

    Raises:
        ValueError: See :func:`sigmoid_focal_loss_sum`.
    """
    levels, terms = _prepare(
        [level.detach() for level in levels],
        targets,
        num_classes,
        weights=None,
        gamma=gamma,
        alpha=alpha,
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
    )
    if is_eager(*levels, targets):
        return backends.compute_anchor_losses(levels, terms)
    losses = _elements_by_definition(levels, terms)
    return losses.sum(dim=1).view(targets.shape)


def _prepare(
    levels: Sequence[Tensor],
    targets: Tensor,
    num_classes: int,
    weights: Tensor | None,
    gamma: float,
    alpha: Alpha,
    label_smoothing: float,
    ignore_index: int,
) -> tuple[list[Tensor], FocalTerms]:
    """Check the arguments, and convert them to those of the backends."""
    levels = in_one_layout(levels)
    logits = levels[0]
    if not torch.jit.is_tracing():  # sizes are tensors then
        _check_levels(levels, num_classes)
        _check_anchors(levels, num_classes, targets=targets, weights=weights)
    if targets.is_floating_point():
        raise ValueError(f'targets must be integer class indices, got {targets.dtype}')
    targets = targets.to(torch.int64)  # uint8 has no -1
    check_indices(targets, num_classes, ignore_index)
    check_alpha(alpha)

    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    if isinstance(alpha, Sequence):
        alpha_pos = alpha_tensor(alpha, num_classes, dtype, logits.device)
        alpha_neg = 1 - alpha_pos
    else:
        numbers = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
        alpha_pos, alpha_neg = (
            torch.full((num_classes,), float(x), dtype=dtype, device=logits.device)
            for x in numbers
        )
    terms = FocalTerms(
        targets=targets.contiguous(),
        weights=None if weights is None else weights.to(dtype).contiguous(),
        alpha_pos=alpha_pos,
        alpha_neg=alpha_neg,
        gamma=float(gamma),
        label_smoothing=float(label_smoothing),
        ignore_index=int(ignore_index),
    )
    return levels, terms


def _needs_definition(
    levels: Sequence[Tensor], weights: Tensor | None, scale: float | Tensor
) -> bool:
    """Whether derivatives are needed that the kernels do not compute."""
    factors = [x for x in (weights, scale) if isinstance(x, Tensor)]
    if torch.is_grad_enabled() and any(x.requires_grad for x in factors):
        return True
    return not is_compiling() and has_tangents(*levels, *factors)


class _FusedFocalLoss(torch.autograd.Function):
    """The loss times ``scale``, a number or a scalar tensor.

    A one-pass backend computes the gradient in the forward pass.
    """

    @staticmethod
    def forward(ctx, terms, scale, needs_grad, *levels):
        if not needs_grad:
            return backends.compute_loss(levels, terms, scale)
        ctx.terms, ctx.scale, ctx.dtype = terms, scale, levels[0].dtype
        ctx.has_gradient = backends.choose_backend(levels).ONE_PASS
        if ctx.has_gradient:
            loss, grads = backends.compute_both(levels, terms, scale)
            ctx.save_for_backward(*grads)
            return loss
        ctx.save_for_backward(*levels)
        return backends.compute_loss(levels, terms, scale)

    @staticmethod
    def backward(ctx, grad_output):
        with torch.no_grad():
            grads = _FusedFocalLoss._gradient(ctx, grad_output)
        return None, None, None, *refuse_second_derivative(grads)

    @staticmethod
    def _gradient(ctx, grad_output: Tensor) -> list[Tensor]:
        if not ctx.has_gradient:
            scale = (grad_output * ctx.scale).float()
            return backends.compute_gradient(ctx.saved_tensors, ctx.terms, scale)
        grads = ctx.saved_tensors
        # A factor that is not 1 costs a copy. Under is_grads_batched it has no value.
        has_value = is_eager(grad_output)
        factor = backends.on_host(grad_output) if has_value else grad_output
        if isinstance(factor, Tensor) or factor != 1:
            grads = [grad * grad_output for grad in grads]  # keeps its dtype
        elif is_graph_kept():  # whoever gets them may change them in place
            grads = [grad.clone() for grad in grads]
        return [grad.to(ctx.dtype) for grad in grads]


def _by_definition(
    levels: Sequence[Tensor], terms: FocalTerms, scale: float | Tensor
) -> Tensor:
    """Return the same from the definition, by way of the loss of each element."""
    return _elements_by_definition(levels, terms).sum() * scale


def _elements_by_definition(levels: Sequence[Tensor], terms: FocalTerms) -> Tensor:
    """Return the weighted loss (B*N, K) of each anchor and class."""
    k = terms.num_classes
    rows = [level.permute(0, 2, 3, 1).flatten(1) for level in levels]
    logits = torch.cat(rows, dim=1).view(-1, k)  # (B*N, K)
    targets = terms.targets.flatten()
    loss = sigmoid_focal_loss(
        logits,
        targets,
        gamma=terms.gamma,
        alpha=None,
        label_smoothing=terms.label_smoothing,
        ignore_index=terms.ignore_index,
    )
    y = targets[:, None] == torch.arange(k, device=targets.device)
    loss = scaled(loss, torch.where(y, terms.alpha_pos, terms.alpha_neg))
    if terms.weights is not None:
        loss = scaled(loss, terms.weights.view(-1, 1))
    return loss


def _check_levels(levels: Sequence[Tensor], num_classes: int) -> None:
    """Check that all levels are of one kind; the kernels look at the first only."""
    first = levels[0]
    kinds = {(x.size(0), x.size(1), x.dtype, x.device) for x in levels}
    if len(kinds) > 1 or not first.is_floating_point():
        raise ValueError(
            'levels must be floating and agree in images, channels, dtype and device, '
            f'got {[(tuple(x.shape), x.dtype, str(x.device)) for x in levels]}'
        )
    if first.size(1) % num_classes:
        raise ValueError(
            f'levels have {first.size(1)} channels, which is not a multiple of '
            f'num_classes={num_classes}'
        )


def _check_anchors(
    levels: Sequence[Tensor], num_classes: int, **tensors: Tensor | None
) -> None:
    shape = (len(levels[0]), sum(count_anchors(level, num_classes) for level in levels))
    device = levels[0].device
    for name, tensor in tensors.items():
        if tensor is not None and (tensor.shape != shape or tensor.device != device):
            raise ValueError(
                f'{name} must have the shape {shape} of the anchors of all levels, on '
                f'{device}; got {tuple(tensor.shape)} on {tensor.device}'
            )
