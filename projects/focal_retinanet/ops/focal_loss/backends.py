"""Which backend computes the fused focal loss.

Each backend is a module with the same names:

- ``is_available(levels)``: whether it takes these logits.
- ``focal_loss_sum(levels, terms, grads, scale)``: the loss. Where ``ONE_PASS`` is
  true, the gradient comes with it.
- ``anchor_losses(levels, terms)``: the loss of each anchor.
"""

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from focal_retinanet.ops.focal_loss import chunked, native, triton
from focal_retinanet.ops.focal_loss.terms import FocalTerms

#: All backends, the fastest first. The last one is always available.
BACKENDS = (native, triton, chunked)


def choose_backend(levels: Sequence[Tensor]) -> ModuleType:
    """Return the fastest backend that takes these logits.

    Args:
        levels: Logits (B, A*K, H, W) of each level, of one dtype on one device.
    """
    return next(backend for backend in BACKENDS if backend.is_available(levels))


def compute_loss(
    levels: Sequence[Tensor], terms: FocalTerms, scale: float | Tensor
) -> Tensor:
    """Return ``scale`` times the loss, a scalar, fp32 (fp64 for fp64 logits)."""
    backend = choose_backend(levels)
    if backend.ONE_PASS:
        return backend.focal_loss_sum(levels, terms, None, on_host(scale))
    return (backend.focal_loss_sum(levels, terms) * scale).to(terms.alpha_pos.dtype)


def compute_gradient(
    levels: Sequence[Tensor], terms: FocalTerms, scale: Tensor
) -> list[Tensor]:
    """Return ``scale`` times the gradient, in the levels' layout and dtype."""
    backend = choose_backend(levels)
    grads = [torch.empty_like(level) for level in levels]
    if backend.ONE_PASS:
        scale = on_host(scale)
    backend.focal_loss_sum(levels, terms, grads, scale)
    return grads


def compute_both(
    levels: Sequence[Tensor], terms: FocalTerms, scale: float | Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Return ``scale`` times the loss and its gradient, from a one-pass backend.

    The gradient of fp16 logits is fp32. In fp16 it would underflow before a gradient
    scaler multiplies it.
    """
    wide = torch.float32 if levels[0].dtype == torch.float16 else None
    grads = [torch.empty_like(level, dtype=wide) for level in levels]
    backend = choose_backend(levels)
    return backend.focal_loss_sum(levels, terms, grads, on_host(scale)), grads


def compute_anchor_losses(levels: Sequence[Tensor], terms: FocalTerms) -> Tensor:
    """Return the loss (B, N) of each anchor, fp32 (fp64 for fp64 logits)."""
    return choose_backend(levels).anchor_losses(levels, terms)


def on_host(scale: float | Tensor) -> float | Tensor:
    """Return a number if reading it costs nothing; the host would wait for a GPU."""
    is_on_cpu = not isinstance(scale, Tensor) or scale.device.type == 'cpu'
    return float(scale) if is_on_cpu else scale
