"""Whether a kernel that bypasses PyTorch's operators may serve a call."""

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import _get_current_dispatch_mode


def is_eager(*tensors: Tensor | None) -> bool:
    """Whether the call is eager and these are plain tensors in memory.

    A kernel that reads and writes memory itself is invisible to everything that
    records or replaces PyTorch's operators: ``torch.compile``, ``torch.export``,
    ``torch.jit.trace``, FakeTensor and other dispatch modes, function modes, the
    transforms of ``torch.func``, and tensor subclasses. Plain PyTorch serves those. A
    default device is a function mode, too, but only that of new tensors.

    Args:
        tensors: Tensors that the kernel would read. None is skipped.
    """
    if is_compiling():  # first, because torch 2.1 cannot compile what follows
        return False
    if (
        torch.jit.is_tracing()
        or _get_current_dispatch_mode() is not None
        or _has_function_mode()
        or torch._C._functorch.peek_interpreter_stack() is not None
    ):
        return False
    for tensor in tensors:  # a generator would take twice the time, in each module
        if tensor is not None and (
            type(tensor) not in (Tensor, torch.nn.Parameter)
            or tensor.layout != torch.strided
            or tensor.is_neg()  # its minus sign is not in memory yet
            or not torch._C._has_storage(tensor)  # is_grads_batched of autograd.grad
        ):
            return False
    return True


def _has_function_mode() -> bool:
    """Whether a ``TorchFunctionMode`` other than the default device is active."""
    for index in range(torch._C._len_torch_function_stack()):
        if type(torch._C._get_function_stack_at(index)) is not DeviceContext:
            return True
    return False


def is_transformed() -> bool:
    """Whether a transform of ``torch.func`` (``grad``, ``vmap``) is active."""
    if is_compiling():
        return False
    return torch._C._functorch.peek_interpreter_stack() is not None


def has_tangents(*tensors: Tensor | None) -> bool:
    """Whether forward-mode differentiation (``torch.autograd.forward_ad``) is active.

    Args:
        tensors: Tensors that the kernel would read. None is skipped.
    """
    return any(
        forward_ad.unpack_dual(tensor).tangent is not None
        for tensor in tensors
        if tensor is not None
    )


def is_graph_kept() -> bool:
    """Whether another backward pass may follow this one (``retain_graph=True``).

    An old torch, such as 2.1, does not tell; the answer is no then.
    """
    ask = getattr(torch._C._autograd, '_get_current_graph_task_keep_graph', None)
    return ask is not None and ask()


def is_compiling() -> bool:
    """Whether ``torch.compile`` or ``torch.export`` is tracing this call."""
    if hasattr(torch.compiler, 'is_compiling'):
        return torch.compiler.is_compiling()
    return torch._dynamo.is_compiling()  # torch before 2.3
