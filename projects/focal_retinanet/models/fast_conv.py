"""Convolutions that have less to do, with the same parameters and results.

1. A frozen batch norm is done by the convolution before it. In evaluation
   mode, in which detectors fine-tune, batch norm is a scale and a shift of each
   channel, and BN(W * x) = (s W) * x + t: scaling the weights costs a pass over
   the weights, scaling the feature maps a pass over them in each direction.
   Batch norm in training mode is computed as ever, so the modes may alternate.
2. On a CPU, 3x3 convolutions take a quarter of the multiplications, see
   :mod:`focal_retinanet.ops.winograd`.

State-dict keys stay, and gradients reach the same parameters.
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from focal_retinanet.ops.winograd import TransformedWeights, conv3x3
from focal_retinanet.ops.winograd import is_available as winograd_is_available


class FastConv2d(nn.Conv2d):
    """A convolution; with the frozen batch norm behind it, if it has one."""

    # A tuple, so that the norm is not a submodule of two modules.
    _norm: tuple[nn.BatchNorm2d, ...] = ()
    # What was computed from the parameters, with their versions.
    _folded: tuple[tuple, tuple[Tensor, Tensor]] | None = None
    _transformed: tuple[tuple, TransformedWeights] | None = None
    _by_winograd = False

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        if not self._norm or self._norm[0].training:
            return super().forward(input)
        return self._conv_forward(input, *self._fold_once(self._norm[0]))

    def _conv_forward(
        self, input: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        if not self._by_winograd or not _is_plain_fp32(input, weight):
            return super()._conv_forward(input, weight, bias)
        if weight.grad_fn is not None:  # folded, for this call alone
            return conv3x3(input, weight, bias)
        # RetinaNet's subnets use one weight for all levels.
        version = _version(weight)
        if self._transformed is None or self._transformed[0] != version:
            self._transformed = (version, TransformedWeights(weight))
        return conv3x3(input, weight, bias, self._transformed[1])

    def _fold_once(self, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
        """Weight and bias; kept between calls that need no gradient."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            self._folded = None
            return self._fold(norm)
        version = _version(self.weight, self.bias, norm.weight, norm.bias)
        version += _version(norm.running_mean, norm.running_var)
        if self._folded is None or self._folded[0] != version:
            self._folded = (version, self._fold(norm))
        return self._folded[1]

    def _fold(self, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
        scale = torch.rsqrt(norm.running_var + norm.eps)
        if norm.weight is not None:
            scale = scale * norm.weight
        shift = -norm.running_mean * scale
        if norm.bias is not None:
            shift = shift + norm.bias
        if self.bias is not None:
            shift = shift + self.bias * scale
        return self.weight * scale[:, None, None, None], shift

    def __getstate__(self) -> dict:
        # A copy computes anew: its parameters live elsewhere.
        return {**self.__dict__, '_folded': None, '_transformed': None}


class FoldedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm of which, in evaluation mode, nothing is left to do."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return super().forward(input) if self.training else input


def use_winograd(model: nn.Module) -> int:
    """Compute 3x3 convolutions of stride 1 by Winograd's algorithm, in place.

    In fp32 on a CPU, where a C++ compiler was found; as ever elsewhere.

    Returns:
        Number of convolutions.
    """
    convs = [conv for conv in _use_fast_convs(model) if _fits_winograd(conv)]
    for conv in convs:
        conv._by_winograd = True
    return len(convs)


def fold_batch_norm(model: nn.Module) -> int:
    """Fold each batch norm that follows a convolution, in place.

    The pairs are those of mmcv's ``ConvModule``, neighbours in an
    ``nn.Sequential``, and ``convN`` with ``bnN`` of one module, as in mmdet's
    ResNets.

    Args:
        model: any; a batch norm counts while it is in evaluation mode only.

    Returns:
        Number of pairs.
    """
    _use_fast_convs(model)
    pairs = [
        (conv, norm)
        for module in model.modules()
        for conv, norm in _neighbours(module)
        if type(conv) is FastConv2d and type(norm) is nn.BatchNorm2d
        if norm.track_running_stats
    ]
    for conv, norm in pairs:
        conv._norm = (norm,)
        norm.__class__ = FoldedBatchNorm2d
    return len(pairs)


def _use_fast_convs(model: nn.Module) -> list[FastConv2d]:
    for module in model.modules():
        if type(module) is nn.Conv2d:  # subclasses compute something else
            module.__class__ = FastConv2d
    return [module for module in model.modules() if type(module) is FastConv2d]


def _fits_winograd(conv: nn.Conv2d) -> bool:
    return (
        conv.kernel_size == (3, 3)
        and conv.stride == conv.dilation == conv.padding == (1, 1)
        and conv.padding_mode == 'zeros'
        and conv.groups == 1
        # Fewer are not worth the transforms.
        and min(conv.in_channels, conv.out_channels) >= 16
    )


def _is_plain_fp32(input: Tensor, weight: Tensor) -> bool:
    return (
        input.device.type == 'cpu'
        and input.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled('cpu')
        and not torch.compiler.is_compiling()
        and winograd_is_available()
    )


def _version(*tensors: Tensor | None) -> tuple:
    """Changes when a tensor does: in place, or by lying elsewhere."""
    return tuple(
        (tensor.data_ptr(), tensor._version) for tensor in tensors if tensor is not None
    )


def _neighbours(module: nn.Module) -> Iterator[tuple[nn.Module, nn.Module | None]]:
    """Modules of which the second gets what the first gives, nothing else does."""
    if isinstance(module, ConvModule):
        if module.with_norm and module.order[:2] == ('conv', 'norm'):
            yield module.conv, module.norm
    elif isinstance(module, nn.Sequential):
        yield from pairwise(module)
    else:
        children = dict(module.named_children())
        for name, child in children.items():
            if name.startswith('conv'):
                yield child, children.get(name.replace('conv', 'bn'))
