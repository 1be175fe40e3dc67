"""Frozen batch norms that the convolutions before them do.

In evaluation mode, in which detectors fine-tune, batch norm is a scale and a shift
of each channel, and BN(W * x) = (s W) * x + t: scaling the weights costs a pass over
the weights, scaling the feature maps a pass over them in each direction.

A convolution does so only while the ``forward`` of a :class:`FoldingBlock` runs in
the same thread, whose graph says that the batch norm is next: called by itself, it
convolves. The block looks the two up in each call, so that either may have been
replaced, frozen or hooked meanwhile. Weights are scaled anew in every call, since
there is no telling whether they changed (a write through ``.data`` leaves no trace).
"""

import functools
import threading
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as nn_module

from focal_retinanet.acceleration.conv_norm_pairs import count_inputs
from focal_retinanet.ops.fast_paths.autocast import autocast_dtype
from focal_retinanet.ops.fast_paths.eager import is_eager
from focal_retinanet.ops.fast_paths.step_aside import say_once

_HOOKS = ('_forward_pre_hooks', '_forward_hooks')
_HOOKS += ('_backward_pre_hooks', '_backward_hooks')
_local = threading.local()


class FoldingBlock(nn.Module):
    """Mixed into the class of a block: in its calls, pairs are one convolution."""

    _pairs: tuple[tuple[str, str], ...] = ()
    _num_inputs = 1

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """As the block's own.

        Raises:
            RuntimeError: it does not go the way that it went when it was traced.
        """
        if not self._pairs or options or len(inputs) != self._num_inputs:
            return super().forward(*inputs, **options)
        if not is_eager(*inputs):
            say_once(
                'Batch norms are not folded where a call is traced, compiled or '
                'transformed, or its tensors are special'
            )
            return super().forward(*inputs)
        outer = getattr(_local, 'call', None)
        _local.call = call = _Call(self)
        try:
            result = super().forward(*inputs)
        finally:
            _local.call = outer
        if call.folded:
            raise RuntimeError(
                f'{type(self).__name__}.forward passed the output of a convolution by '
                'its batch norm, which it did not when fold_batch_norm traced it; '
                'change modules first, then call fold_batch_norm'
            )
        return result

    def __reduce_ex__(self, protocol: int) -> tuple:
        # The class was made at run time; a copy in another process makes it anew.
        _, (cls, *_), *rest = super().__reduce_ex__(protocol)
        return _new_block, (cls.__bases__[1],), *rest


class _Call:
    """A call of a block: which norms are due, and which were done."""

    def __init__(self, block: FoldingBlock) -> None:
        self.norms: dict[nn.Module, FoldedBatchNorm2d] = {}
        self.folded: dict[nn.Module, Tensor] = {}
        for conv_name, norm_name in block._pairs:
            conv, norm = _find(block, conv_name), _find(block, norm_name)
            if conv is not None and type(norm) is FoldedBatchNorm2d:
                self.norms[conv] = norm


class FoldedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that passes on what a convolution did already."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        if isinstance(input, fx.Proxy):
            return as_leaf(self, input)
        if is_eager(input):
            call = getattr(_local, 'call', None)
            if call is not None and call.folded.get(self) is input:
                del call.folded[self]
                return input
        return super().forward(input)


def make_folding(block: nn.Module, pairs: list[tuple[str, str]]) -> None:
    """Let the convolutions of a block do the batch norms behind them, in place.

    Args:
        block: any, but no :class:`FoldingBlock`.
        pairs: names of convolutions that ask for :func:`norm_behind`, and of
            :class:`FoldedBatchNorm2d`.
    """
    block._num_inputs = count_inputs(block)
    block._pairs = tuple(pairs)
    block.__class__ = _folding_class(type(block))


def norm_behind(conv: nn.Conv2d, input: Tensor) -> FoldedBatchNorm2d | None:
    """The batch norm that this convolution of the input has to do now, if any.

    Whoever does it passes the output through :func:`folded`.
    """
    call = getattr(_local, 'call', None) if is_eager(input) else None
    norm = call.norms.get(conv) if call is not None else None
    if norm is None or norm.training or input.dim() != 4:
        return None
    reason = _why_apart(conv, norm, input)
    if reason is not None:
        say_once(f'Batch norms are not folded: {reason}')
        return None
    return norm


def _why_apart(conv: nn.Conv2d, norm: FoldedBatchNorm2d, input: Tensor) -> str | None:
    """Why the two have to be computed one after the other; None if they need not."""
    tensors = [input, *_parameters(conv, norm), conv.bias, norm.bias]
    tensors = [x for x in tensors if x is not None]
    if norm.running_mean is None:
        return 'without running statistics they are never frozen'
    if any(getattr(nn_module, f'_global{name}') for name in _HOOKS):
        return 'hooks of all modules see what is between them'
    # A hook before the convolution sees, and may change, what goes into both.
    of_conv = [name for name in _HOOKS if name != '_forward_pre_hooks']
    if any(vars(conv)[name] for name in of_conv) or any(
        vars(norm)[name] for name in _HOOKS
    ):
        return 'hooks of a convolution or a batch norm see what is between them'
    if 'forward' in vars(norm) or vars(norm).get('_compiled_call_impl') is not None:
        return 'another forward was given to a batch norm'
    dtypes = {x.dtype for x in tensors[1:]}
    if dtypes not in ({torch.float32}, {torch.float64}):
        return 'their parameters are not fp32 or fp64'
    if autocast_dtype(input.device.type) == torch.float16:
        return 'scaled weights can leave the range of fp16'
    if any(forward_ad.unpack_dual(x).tangent is not None for x in tensors):
        return 'forward-mode derivatives are taken'
    return None


def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the two in one."""
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    if conv.bias is not None:
        shift = shift + conv.bias * scale
    return conv.weight * scale[:, None, None, None], shift


def folded(conv: nn.Conv2d, norm: FoldedBatchNorm2d, output: Tensor) -> Tensor:
    """The output of both, to be passed on by the norm."""
    if output.requires_grad:
        output = _RaiseIfChanged.apply(output, *_parameters(conv, norm))
    _local.call.folded[norm] = output
    return output


class _RaiseIfChanged(torch.autograd.Function):
    """Its input; in backward, parameters changed in place are an error.

    PyTorch's convolution and batch norm raise it for these parameters. What is
    scaled are copies of them, which nothing changes.
    """

    @staticmethod
    def forward(ctx, output, *parameters):
        ctx.save_for_backward(*parameters)
        ctx.mark_dirty(output)
        return output

    @staticmethod
    def backward(ctx, grad_output):
        parameters = ctx.saved_tensors  # raises
        return grad_output, *([None] * len(parameters))


def as_leaf(module: nn.Module, input: fx.Proxy) -> fx.Proxy:
    """What ``torch.fx`` records of a call: the module, as it is with PyTorch's own."""
    name = input.tracer.path_of_module(module)
    return input.tracer.create_proxy('call_module', name, (input,), {})


def _parameters(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> list[Tensor]:
    """All that enters a product, from which PyTorch computes gradients."""
    tensors = (conv.weight, norm.weight, norm.running_mean, norm.running_var)
    return [x for x in tensors if x is not None]


def _find(block: nn.Module, name: str) -> nn.Module | None:
    try:
        return block.get_submodule(name)
    except AttributeError:  # it was taken out
        return None


@functools.cache
def _folding_class(cls: type) -> type:
    @functools.wraps(cls.forward)  # whose arguments torch.fx and others look up
    def forward(self, *inputs, **options):
        return FoldingBlock.forward(self, *inputs, **options)

    members = dict(__module__=cls.__module__, __doc__=cls.__doc__, forward=forward)
    return type(cls.__name__, (FoldingBlock, cls), members)


def _new_block(cls: type) -> FoldingBlock:
    folding_class = _folding_class(cls)
    return folding_class.__new__(folding_class)
