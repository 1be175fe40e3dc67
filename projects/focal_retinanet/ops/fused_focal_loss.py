"""The sum of the focal loss over all levels at once, without its elements.

What a detector needs of :func:`focal_retinanet.ops.focal_loss.sigmoid_focal_loss`
is one number and its gradient. Here both come from index targets, straight
from the maps that the convolutions left: no one-hot targets, no loss of each
element, no permuted copies. Three backends compute the same:

- CPU: C++, :mod:`focal_retinanet.ops.focal_loss_native`;
- NVIDIA GPU: Triton, :mod:`focal_retinanet.ops.focal_loss_triton`;
- anything else: :mod:`focal_retinanet.ops.focal_loss_chunked`, plain PyTorch.
"""

import importlib.util
from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from focal_retinanet.ops import focal_loss_chunked, focal_loss_native
from focal_retinanet.ops.focal_loss import Alpha, alpha_tensor, check_indices
from focal_retinanet.ops.focal_loss_terms import FocalTerms


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
    """Focal loss (section 3.2), weighted and added up over anchors and classes.

    Args:
        levels: logits of each level, (B, A*K, H, W), contiguous or
            channels-last (other layouts are copied); any floating dtype, the
            arithmetic is in fp32, or in fp64 for fp64.
        targets: (B, N) integer class indices of the N anchors of all levels,
            level by level, rows of a level first, the A of a cell side by
            side. K is background.
        num_classes: K.
        weights: (B, N) weight of each anchor.
        scale: factor of the result, a number or a scalar tensor without
            gradient: one over the number of positives.
        gamma: focusing parameter, >= 0.
        alpha: weight of y = 1, with 1 - alpha for y = 0; a number, K numbers
            or None.
        label_smoothing: epsilon, on the cross entropy alone.
        ignore_index: target of anchors that have no loss.

    Returns:
        Scalar, fp32 (fp64 for fp64 logits). Differentiable once.

    Raises:
        ValueError: levels differ in more than their height and width, shapes or
            devices do not fit, or (on a CPU) an index is outside of 0..K.
    """
    levels = [_dense(level) for level in levels]
    logits = levels[0]
    _check_levels(levels, num_classes)
    shape = (len(logits), sum(level[0].numel() // num_classes for level in levels))
    for name, tensor in (('targets', targets), ('weights', weights)):
        if tensor is None:
            continue
        if tensor.shape != shape or tensor.device != logits.device:
            raise ValueError(
                f'{name} must have the shape {shape} of the anchors of all levels, on '
                f'{logits.device}; got {tuple(tensor.shape)} on {tensor.device}'
            )
    if targets.is_floating_point():
        raise ValueError(f'targets must be integer class indices, got {targets.dtype}')
    check_indices(targets, num_classes, ignore_index)

    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    if alpha is None:
        alpha_pos = alpha_neg = torch.ones(
            num_classes, dtype=dtype, device=logits.device
        )
    else:
        alpha_pos = alpha_tensor(alpha, num_classes, dtype, logits.device)
        alpha_pos = alpha_pos.expand(num_classes).contiguous()
        alpha_neg = 1 - alpha_pos
    terms = FocalTerms(
        targets=targets.to(torch.int64).contiguous(),
        weights=None if weights is None else weights.to(dtype).contiguous(),
        alpha_pos=alpha_pos,
        alpha_neg=alpha_neg,
        gamma=float(gamma),
        label_smoothing=float(label_smoothing),
        ignore_index=int(ignore_index),
    )
    fits_in_32_bits = max(level[0].numel() for level in levels) < 2**31
    if logits.is_cuda and dtype == torch.float32 and fits_in_32_bits and _has_triton():
        from focal_retinanet.ops.focal_loss_triton import TritonFocalLoss

        return TritonFocalLoss.apply(terms, scale, *levels)
    needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in levels)
    return _OnePassFocalLoss.apply(terms, scale, needs_grad, *levels)


class _OnePassFocalLoss(torch.autograd.Function):
    """The loss, with a gradient that is ready before it is asked for.

    On a CPU the arithmetic costs more than the memory, and most of it serves
    the loss and the gradient alike.
    """

    @staticmethod
    def forward(ctx, terms, scale, needs_grad, *levels):
        grads = [_empty_gradient(x) for x in levels] if needs_grad else None
        loss = _backend(levels[0]).focal_loss_sum(levels, grads, terms, float(scale))
        if needs_grad:
            ctx.save_for_backward(*grads)
        ctx.dtype = levels[0].dtype
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        grads = ctx.saved_tensors
        if grad_output != 1:  # free on a CPU, and rare: it costs a copy
            grads = [grad * grad_output for grad in grads]  # keeps its dtype
        return None, None, None, *(grad.to(ctx.dtype) for grad in grads)


def _empty_gradient(level: Tensor) -> Tensor:
    """Where the gradient goes, in the level's layout and type.

    In fp16 it would underflow before a gradient scaler has multiplied it.
    """
    is_half = level.dtype == torch.float16
    return torch.empty_like(level, dtype=torch.float32 if is_half else None)


def _backend(logits: Tensor) -> ModuleType:
    return (
        focal_loss_native
        if focal_loss_native.is_available(logits)
        else focal_loss_chunked
    )


def _has_triton() -> bool:
    return importlib.util.find_spec('triton') is not None


def _check_levels(levels: Sequence[Tensor], num_classes: int) -> None:
    """All of one kind: the kernels believe what they are told of the first."""
    first = levels[0]
    kinds = {(x.size(0), x.size(1), x.dtype, x.device) for x in levels}
    if len(kinds) > 1 or not first.is_floating_point():
        raise ValueError(
            'levels must be floating and agree in images, channels, dtype and device, '
            f'got {[(tuple(x.shape), x.dtype, str(x.device)) for x in levels]}'
        )
    if first.size(1) % num_classes:
        raise ValueError(
            f'levels have {first.size(1)} channels, which is no multiple of '
            f'num_classes={num_classes}'
        )


def _dense(level: Tensor) -> Tensor:
    """The map itself where it is laid out in one of the two known ways."""
    if level.is_contiguous() or level.is_contiguous(memory_format=torch.channels_last):
        return level
    return level.contiguous()
