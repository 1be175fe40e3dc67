"""The fused focal loss on a CPU, by the C++ kernel ``native.cpp``."""

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from focal_retinanet.ops.fast_paths import compile
from focal_retinanet.ops.focal_loss.terms import FocalTerms

#: The forward pass computes the gradient too.
ONE_PASS = True


def is_available(levels: Sequence[Tensor]) -> bool:
    """Whether the kernel serves: fp32 or bf16 logits on a CPU."""
    return (
        levels[0].device.type == 'cpu'
        and levels[0].dtype in (torch.float32, torch.bfloat16)
        and _kernel() is not None
    )


def focal_loss_sum(
    levels: Sequence[Tensor],
    terms: FocalTerms,
    grads: Sequence[Tensor] | None = None,
    scale: float = 1.0,
) -> Tensor:
    """Return the loss, and write its gradient to ``grads`` if given.

    Args:
        levels: Logits (B, A*K, H, W) of each level, contiguous or channels-last.
        terms: Targets, weights and parameters.
        grads: Tensors of the same dtype and layout, filled with ``scale`` times the
            gradient.
        scale: Factor of the loss and the gradient.

    Returns:
        ``scale`` times the loss, a scalar, fp32.
    """
    total = _run(levels, terms, grads=grads, scale=scale)
    return torch.tensor(total * scale, dtype=torch.float32, device='cpu')


def anchor_losses(levels: Sequence[Tensor], terms: FocalTerms) -> Tensor:
    """Return the loss (B, N) of each anchor, summed over its classes, fp32."""
    losses = torch.empty(terms.targets.shape, dtype=torch.float32, device='cpu')
    _run(levels, terms, losses=losses)
    return losses


def _run(
    levels: Sequence[Tensor],
    terms: FocalTerms,
    grads: Sequence[Tensor] | None = None,
    losses: Tensor | None = None,
    scale: float = 1.0,
) -> float:
    num_classes = terms.num_classes
    first_anchor = 0
    total = 0.0
    for index, logits in enumerate(levels):
        batch, channels, height, width = logits.shape
        total += _kernel()(
            logits.data_ptr(),
            None if grads is None else grads[index].data_ptr(),
            _address(losses, first_anchor),
            logits.dtype == torch.bfloat16,
            not logits.is_contiguous(),
            batch,
            channels // num_classes,
            num_classes,
            height * width,
            _address(terms.targets, first_anchor),
            _address(terms.weights, first_anchor),
            terms.targets.size(1),
            terms.ignore_index,
            terms.alpha_pos.data_ptr(),
            terms.alpha_neg.data_ptr(),
            terms.gamma,
            terms.label_smoothing,
            scale,
            torch.get_num_threads(),
        )
        first_anchor += height * width * channels // num_classes
    return total


def _address(per_anchor: Tensor | None, first_anchor: int) -> int | None:
    """Return the address of a level's first value in (B, N)."""
    return None if per_anchor is None else per_anchor[:, first_anchor:].data_ptr()


@functools.cache
def _kernel():
    library = compile.load('focal_loss', Path(__file__).with_name('native.cpp'))
    if library is None:
        return None
    pointer, integer, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    kernel = library.focal_loss
    kernel.restype = ctypes.c_double
    kernel.argtypes = [
        *[pointer, pointer, pointer, ctypes.c_int, ctypes.c_int],
        *[integer, integer, integer, integer],
        *[pointer, pointer, integer, integer, pointer, pointer],
        *[real, real, real, ctypes.c_int],
    ]
    return kernel
