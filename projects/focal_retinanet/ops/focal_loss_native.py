"""The fused focal loss on a CPU, by the C++ kernel ``csrc/focal_loss.cpp``."""

import ctypes
import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from focal_retinanet.ops import native
from focal_retinanet.ops.focal_loss_terms import FocalTerms


def is_available(logits: Tensor) -> bool:
    """Whether the kernel takes these logits: fp32 or bf16, on a CPU."""
    return (
        logits.device.type == 'cpu'
        and logits.dtype in (torch.float32, torch.bfloat16)
        and _kernel() is not None
    )


def focal_loss_sum(
    levels: Sequence[Tensor],
    grads: Sequence[Tensor] | None,
    terms: FocalTerms,
    scale: float,
) -> Tensor:
    """The loss times ``scale``, a scalar; writes its gradient into ``grads``.

    Args:
        levels: (B, A*K, H, W) each, contiguous or channels-last.
        grads: of the same layout, or None where no gradient is needed.
        terms: the rest of the loss.
        scale: factor of the loss and the gradient.
    """
    num_classes = terms.num_classes
    first_anchor = 0
    total = 0.0
    for index, logits in enumerate(levels):
        batch, channels, height, width = logits.shape
        targets = terms.targets[:, first_anchor:]
        weights = None if terms.weights is None else terms.weights[:, first_anchor:]
        total += _kernel()(
            logits.data_ptr(),
            None if grads is None else grads[index].data_ptr(),
            logits.dtype == torch.bfloat16,
            not logits.is_contiguous(),
            batch,
            channels // num_classes,
            num_classes,
            height * width,
            targets.data_ptr(),
            None if weights is None else weights.data_ptr(),
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
    return torch.tensor(total * scale, dtype=torch.float32)


@functools.cache
def _kernel():
    library = native.load('focal_loss')
    if library is None:
        return None
    pointer, integer, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    kernel = library.focal_loss
    kernel.restype = ctypes.c_double
    kernel.argtypes = [
        *[pointer, pointer, ctypes.c_int, ctypes.c_int],
        *[integer, integer, integer, integer],
        *[pointer, pointer, integer, integer, pointer, pointer],
        *[real, real, real, ctypes.c_int],
    ]
    return kernel
