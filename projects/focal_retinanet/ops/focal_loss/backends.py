"""Which backend computes the fused focal loss.

Each has the same names: ``is_available(levels)``; ``focal_loss_sum(levels, terms,
grads, scale)``, whose gradient comes with the loss where ``ONE_PASS``; and
``anchor_losses(levels, terms)``.
"""

import importlib
from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from focal_retinanet.ops.fast_paths import triton_probe
from focal_retinanet.ops.focal_loss import chunked as focal_loss_chunked
from focal_retinanet.ops.focal_loss import native as focal_loss_native
from focal_retinanet.ops.focal_loss.terms import FocalTerms


def choose_backend(levels: Sequence[Tensor]) -> ModuleType:
    """The fastest backend that takes these logits.

    Args:
        levels: (B, A*K, H, W) each, of one dtype on one device.
    """
    if focal_loss_native.is_available(levels):
        return focal_loss_native
    if triton_probe.works(levels[0].device, try_triton):
        triton = _import_triton_backend()
        if triton.is_available(levels):
            return triton
    return focal_loss_chunked


def try_triton(device: torch.device) -> None:
    """Compute a small loss and its gradient on a GPU.

    Raises:
        Exception: whatever keeps Triton from compiling, launching or computing.
    """
    _import_triton_backend().try_on(device)


def _import_triton_backend() -> ModuleType:
    # Not before it is needed: Triton takes a second, and not every torch has it.
    return importlib.import_module('focal_retinanet.ops.focal_loss.triton')


def compute_loss(
    levels: Sequence[Tensor], terms: FocalTerms, scale: float | Tensor
) -> Tensor:
    """``scale`` times the loss, a scalar; fp32 (fp64 for fp64 logits)."""
    backend = choose_backend(levels)
    if backend.ONE_PASS:
        return backend.focal_loss_sum(levels, terms, None, on_host(scale))
    return (backend.focal_loss_sum(levels, terms) * scale).to(terms.alpha_pos.dtype)


def compute_gradient(
    levels: Sequence[Tensor], terms: FocalTerms, scale: Tensor
) -> list[Tensor]:
    """``scale`` times the gradient, in the levels' layout and dtype."""
    backend = choose_backend(levels)
    grads = [torch.empty_like(level) for level in levels]
    if backend.ONE_PASS:
        scale = on_host(scale)
    backend.focal_loss_sum(levels, terms, grads, scale)
    return grads


def compute_both(
    levels: Sequence[Tensor], terms: FocalTerms, scale: float | Tensor
) -> tuple[Tensor, list[Tensor]]:
    """``scale`` times the loss and the gradient, by a backend of one pass.

    The gradient of fp16 logits is fp32: in fp16 it would underflow before a
    gradient scaler has multiplied it.
    """
    wide = torch.float32 if levels[0].dtype == torch.float16 else None
    grads = [torch.empty_like(level, dtype=wide) for level in levels]
    backend = choose_backend(levels)
    return backend.focal_loss_sum(levels, terms, grads, on_host(scale)), grads


def compute_anchor_losses(levels: Sequence[Tensor], terms: FocalTerms) -> Tensor:
    """The loss of each anchor over its classes, (B, N); fp32 (fp64 for fp64 logits)."""
    return choose_backend(levels).anchor_losses(levels, terms)


def on_host(scale: float | Tensor) -> float | Tensor:
    """A number where reading it costs nothing; a GPU would have to be waited for."""
    is_on_cpu = not isinstance(scale, Tensor) or scale.device.type == 'cpu'
    return float(scale) if is_on_cpu else scale
