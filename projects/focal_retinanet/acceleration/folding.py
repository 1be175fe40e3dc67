"""Frozen batch norms folded into the convolutions before them.

In evaluation mode, in which detectors fine-tune, batch norm is a scale s and a shift t
of each channel, so BN(W * x) = (s W) * x + t. Scaling the weights costs one pass over
the weights. Scaling the feature maps costs one pass over the maps in the forward and
one in the backward pass.

A convolution folds only while the ``forward`` of its :class:`FoldingBlock` runs in the
same thread, because then the batch norm is called next. Outside of it, the convolution
only convolves. The block looks up both modules in every call, so either may be
replaced, frozen or hooked between calls. The weights are scaled in every call, unless
the caller says that they stay, see :mod:`focal_retinanet.acceleration.frozen`.
"""

import functools
import sys
import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import is_parametrized

from focal_retinanet.acceleration.conv_norm_pairs import Pairs, count_inputs
from focal_retinanet.ops.fast_paths.autocast import autocast_dtype
from focal_retinanet.ops.fast_paths.eager import has_tangents, is_eager
from focal_retinanet.ops.fast_paths.overrides import HOOKS, has_hooks
from focal_retinanet.ops.fast_paths.step_aside import say_once

# A hook before a convolution only needs the input of both.
_CONV_HOOKS = [name for name in HOOKS if name != '_forward_pre_hooks']
_local = threading.local()


class FoldingBlock(nn.Module):
    """Mixin of a block in whose calls each pair is one convolution."""

    _pairs: tuple[tuple[str, str], ...] = ()
    _attributes: Mapping[str, Any] = MappingProxyType({})
    _num_inputs = 1

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Call the block's own ``forward``.

        Raises:
            RuntimeError: The call does not follow the path that was traced, and no
                attribute shows it beforehand.
        """
        if not self._pairs or options or len(inputs) != self._num_inputs:
            return super().forward(*inputs, **options)
        if not is_eager(*inputs):
            say_once(
                'Batch norms are not folded: the call is traced, compiled or '
                'transformed, or its tensors are special'
            )
            return super().forward(*inputs)
        if not _has_attributes(self, self._attributes):
            say_once(
                f'Batch norms of {type(self).__name__} are not folded: an attribute '
                'that its forward reads has changed since fold_batch_norm traced it'
            )
            return super().forward(*inputs)
        outer = getattr(_local, 'call', None)
        _local.call = call = _Call(self)
        try:
            result = super().forward(*inputs)
        finally:
            _local.call = outer
        if call.folded:
            raise call.left_the_path()
        return result

    def __reduce_ex__(self, protocol: int) -> tuple:
        # The class is made at run time, so another process has to make it again.
        _, (cls, *_), *rest = super().__reduce_ex__(protocol)
        return _new_block, (cls.__bases__[1],), *rest


class _Call:
    """State of one call of a block.

    Attributes:
        norms: Batch norm that each convolution may do.
        folded: Output of each batch norm that a convolution did and that the batch norm
            itself has not passed on yet.
    """

    def __init__(self, block: FoldingBlock) -> None:
        self.norms: dict[nn.Module, FoldedBatchNorm2d] = {}
        self.folded: dict[nn.Module, Tensor] = {}
        self._block_name = type(block).__name__
        for conv_name, norm_name in block._pairs:
            conv, norm = _find(block, conv_name), _find(block, norm_name)
            if conv is not None and type(norm) is FoldedBatchNorm2d:
                self.norms[conv] = norm

    def left_the_path(self) -> RuntimeError:
        return RuntimeError(
            f'{self._block_name}.forward did not pass the output of a convolution to '
            'its batch norm, as it did when fold_batch_norm traced it; change modules '
            'before you call fold_batch_norm'
        )


class FoldedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that returns its input if a convolution did its work already."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize maps (B, C, H, W)."""
        if isinstance(input, fx.Proxy):
            return record_call(self, input)
        if is_eager(input):
            call = getattr(_local, 'call', None)
            if call is not None and call.folded.get(self) is input:
                del call.folded[self]
                return input
        return super().forward(input)


def make_folding(block: nn.Module, pairs: Pairs) -> None:
    """Let the convolutions of a block do the batch norms behind them.

    Args:
        block: Module that is not a :class:`FoldingBlock` yet, changed in place.
        pairs: Pairs of a convolution that calls :func:`norm_behind` and of a
            :class:`FoldedBatchNorm2d`.
    """
    block._num_inputs = count_inputs(block)
    block._pairs, block._attributes = pairs.names, pairs.attributes
    block.__class__ = _folding_class(type(block))


def norm_behind(conv: nn.Conv2d, input: Tensor) -> FoldedBatchNorm2d | None:
    """Return the batch norm that a convolution has to do in this call, or None.

    A convolution that does it passes its output through :func:`pass_on`.
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
    """Return why the two cannot be folded, or None if they can."""
    # First, because each read computes it again, with new state or random numbers.
    if is_parametrized(conv) or is_parametrized(norm):
        return 'their parameters are computed by a parametrization'
    tensors = [input, *sources(conv, norm)]
    if norm.running_mean is None:
        return 'they have no running statistics, so they are never frozen'
    if has_hooks(conv, *_CONV_HOOKS) or has_hooks(norm):
        return 'hooks need the output of a convolution'
    if 'forward' in vars(norm) or vars(norm).get('_compiled_call_impl') is not None:
        return 'a batch norm has a forward of its own'
    dtypes = {x.dtype for x in tensors[1:]}
    if dtypes not in ({torch.float32}, {torch.float64}):
        return 'their parameters are not fp32 or fp64'
    if autocast_dtype(input.device.type) == torch.float16:
        return 'scaled weights may overflow in fp16'
    if has_tangents(*tensors):
        return 'forward-mode derivatives are computed'
    if _is_checkpointed():
        return 'a block checkpoints a part of itself, which is recomputed outside of it'
    return None


def _is_checkpointed() -> bool:
    """Whether ``torch.utils.checkpoint`` was called inside of the block's forward.

    The kinds of checkpoints leave different traces in PyTorch's state, and none of them
    in all versions, but each of them is on the stack.
    """
    frame = sys._getframe()
    while frame is not None and frame.f_code is not FoldingBlock.forward.__code__:
        if frame.f_globals.get('__name__') == 'torch.utils.checkpoint':
            return True
        frame = frame.f_back
    return False


def sources(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> list[Tensor]:
    """Return the tensors that :func:`fold` computes with."""
    biases = [x for x in (conv.bias, norm.bias) if x is not None]
    return [*_parameters(conv, norm), *biases]


def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the convolution that does both."""
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    if conv.bias is not None:
        shift = shift + conv.bias * scale
    return conv.weight * scale[:, None, None, None], shift


def pass_on(conv: nn.Conv2d, norm: FoldedBatchNorm2d, output: Tensor) -> Tensor:
    """Return the output of both, and let the batch norm pass it on.

    Raises:
        RuntimeError: The batch norm has not passed on an earlier output.
    """
    if norm in _local.call.folded:
        raise _local.call.left_the_path()
    if output.requires_grad:
        output = _RaiseIfChanged.apply(output, *_parameters(conv, norm))
    _local.call.folded[norm] = output
    return output


class _RaiseIfChanged(torch.autograd.Function):
    """Identity whose backward raises if parameters were changed in place.

    PyTorch's convolution and batch norm raise for these parameters. The folded
    convolution only saves scaled copies, so it would not notice.
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


def record_call(module: nn.Module, input: fx.Proxy) -> fx.Proxy:
    """Record a call in a ``torch.fx`` trace, as for one of PyTorch's own modules."""
    name = input.tracer.path_of_module(module)
    return input.tracer.create_proxy('call_module', name, (input,), {})


def _parameters(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> list[Tensor]:
    """Return the parameters and statistics that PyTorch saves for backward."""
    tensors = (conv.weight, norm.weight, norm.running_mean, norm.running_var)
    return [x for x in tensors if x is not None]


def _has_attributes(block: nn.Module, attributes: Mapping[str, Any]) -> bool:
    for name, value in attributes.items():
        now = getattr(block, name, _local)  # which is none of the values
        if type(now) is not type(value) or now != value:
            return False
    return True


def _find(block: nn.Module, name: str) -> nn.Module | None:
    try:
        return block.get_submodule(name)
    except AttributeError:  # the module was removed
        return None


@functools.cache
def _folding_class(cls: type) -> type:
    @functools.wraps(cls.forward)  # torch.fx and others look at its signature
    def forward(self, *inputs, **options):
        return FoldingBlock.forward(self, *inputs, **options)

    members = dict(__module__=cls.__module__, __doc__=cls.__doc__, forward=forward)
    return type(cls.__name__, (FoldingBlock, cls), members)


def _new_block(cls: type) -> FoldingBlock:
    folding_class = _folding_class(cls)
    return folding_class.__new__(folding_class)
