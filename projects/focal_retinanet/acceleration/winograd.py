"""3x3 convolutions with a quarter of the multiplications, on a CPU.

Four fifths of RetinaNet's arithmetic are 3x3 convolutions of stride 1. Winograd's
algorithm (Lavin and Gray, 2016) needs 36 multiplications for 4x4 pixels of the output
and each pair of channels, in place of 144. They are products of matrices, which
PyTorch's BLAS computes; the transforms before and after are in ``winograd.cpp``. The
arithmetic is fp32. Rounding errors are about ten times those of the plain sum, or 1e-6
of the largest output in the same tile of 4x4 pixels.

Only working memory is kept between calls. The weights are transformed in every call,
unless the caller keeps them, see :mod:`focal_retinanet.acceleration.frozen`.
"""

import ctypes
import functools
import math
import threading
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from focal_retinanet.ops.fast_paths import compile
from focal_retinanet.ops.fast_paths.autocast import autocast_dtype
from focal_retinanet.ops.fast_paths.eager import has_tangents, is_eager
from focal_retinanet.ops.fast_paths.step_aside import say_once

# Tiles at a time: enough for fast products, few enough that their transforms are small
# compared with the feature maps.
_CHUNK = 512
# With fewer tiles, transforming the weights costs more than it saves.
_MIN_TILES = 32
# With fewer tiles, reading the transformed weights costs more than it saves.
_MIN_TILES_WITH_POINTS = 16
_local = threading.local()


def is_available() -> bool:
    """Whether the transforms can be compiled on this machine."""
    return _library() is not None


def is_small(input: Tensor) -> bool:
    """Return whether maps (B, C, H, W) are too small even for transformed weights."""
    if input.dim() != 4:
        return True
    batch, _, height, width = input.shape
    return _count_tiles(batch, height, width) < _MIN_TILES_WITH_POINTS


def conv3x3(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    points: Callable[[], Tensor] | None = None,
) -> Tensor:
    """Convolve with stride 1 and zero padding of 1.

    The result is that of ``torch.nn.functional.conv2d(input, weight, bias, padding=1)``
    up to rounding, and differentiable. PyTorch computes it itself

    - if the arguments are not fp32 tensors on a CPU, under autocast, and if the call is
      traced, compiled or transformed; one line in the log then says why,
    - if the feature map is small or empty,
    - if an output or a gradient is not finite, because a NaN would spread over the 4x4
      pixels of a tile and not over 3x3,
    - for second derivatives.

    Args:
        input: Maps (B, C, H, W); channels-last is fastest.
        weight: Weight (O, C, 3, 3).
        bias: Bias (O,).
        points: Function that returns ``transform(weight)``; calls that record no
            gradient use it.

    Returns:
        (B, O, H, W), channels-last if the input or the weight is.
    """
    reason = _why_plain(input, weight, bias)
    if reason is not None:
        say_once(f"Winograd's algorithm does not compute 3x3 convolutions: {reason}")
    elif _fits(input, weight, bias, points is not None):
        if torch.is_grad_enabled():
            return _Conv3x3.apply(input, weight, bias)
        return _forward(input, weight, bias, points() if points else transform(weight))
    return functional.conv2d(input, weight, bias, padding=1)


def _why_plain(*arguments: Tensor | None) -> str | None:
    """Return why tensors of any shape cannot be served, or None if they can."""
    # First, so that whatever records or compiles the call sees nothing of the rest.
    if not is_eager(*arguments):
        return 'the call is traced, compiled or transformed, or its tensors are special'
    tensors = [x for x in arguments if x is not None]
    if any(x.device.type != 'cpu' for x in tensors):
        return 'it runs on CPUs only'
    if autocast_dtype('cpu') is not None:
        return 'autocast is on'
    if any(x.dtype != torch.float32 for x in tensors):
        return 'it computes in fp32 only'
    if not _products_are_fp32():
        return 'matrix products are allowed less precision than fp32'
    if has_tangents(*tensors):
        return 'it has no forward-mode derivative'
    if not is_available():
        return 'its kernel could not be compiled'
    return None


def _products_are_fp32() -> bool:
    if hasattr(torch.backends.mkldnn, 'matmul'):  # torch 2.9
        return torch.backends.mkldnn.matmul.fp32_precision in ('none', 'ieee')
    return torch.get_float32_matmul_precision() == 'highest'


def _fits(input: Tensor, weight: Tensor, bias: Tensor | None, has_points: bool) -> bool:
    """Whether the shapes agree and the algorithm pays off."""
    if input.is_nested or input.dim() != 4 or input.numel() == 0:
        return False
    batch, channels, height, width = input.shape
    outputs = weight.size(0)
    return (
        weight.shape == (outputs, channels, 3, 3)
        and (bias is None or bias.shape == (outputs,))
        and _count_tiles(batch, height, width)
        >= (_MIN_TILES_WITH_POINTS if has_points else _MIN_TILES)
    )


class _Conv3x3(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input, weight, bias):
        ctx.save_for_backward(input, weight)
        ctx.has_bias = bias is not None
        return _forward(input, weight, bias, transform(weight))

    @staticmethod
    def backward(ctx, grad_output):
        input, weight = ctx.saved_tensors
        needed = ctx.needs_input_grad
        if not torch.is_grad_enabled() and _why_plain(grad_output) is None:
            gradients = _gradients(input, weight, grad_output, needed)
            if gradients is not None:
                return gradients
        return torch.ops.aten.convolution_backward(
            grad_output,
            input,
            weight,
            [weight.size(0)] if ctx.has_bias else None,
            stride=[1, 1],
            padding=[1, 1],
            dilation=[1, 1],
            transposed=False,
            output_padding=[0, 0],
            groups=1,
            output_mask=list(needed),
        )


def _forward(
    input: Tensor, weight: Tensor, bias: Tensor | None, points: Tensor
) -> Tensor:
    output = _convolve(input, points, bias)
    if output is None:
        return functional.conv2d(input, weight, bias, padding=1)
    return output.contiguous(memory_format=output_layout(input, weight))


def _gradients(
    input: Tensor, weight: Tensor, grad_output: Tensor, needed: tuple[bool, bool, bool]
) -> tuple[Tensor | None, ...] | None:
    """Return the needed gradients of input, weight and bias; None if not finite."""
    needs_input, needs_weight, needs_bias = needed
    layout = output_layout(input, weight)
    grad_input = grad_weight = grad_bias = None
    if needs_input:
        points = transform(weight, for_input_gradient=True)
        grad_input = _convolve(grad_output, points)
        if grad_input is None:
            return None
        grad_input = grad_input.contiguous(memory_format=layout)
    if needs_weight:
        grad_weight = _weight_gradient(input, grad_output)
        if grad_weight is None:
            return None
        grad_weight = grad_weight.contiguous(memory_format=layout)
    if needs_bias:
        grad_bias = grad_output.sum((0, 2, 3))
    return grad_input, grad_weight, grad_bias


def output_layout(*tensors: Tensor) -> torch.memory_format:
    """Return channels-last if one of the tensors is, as PyTorch does."""
    for tensor in tensors:
        is_nhwc = tensor.is_contiguous(memory_format=torch.channels_last)
        if is_nhwc and not tensor.is_contiguous():
            return torch.channels_last
    return torch.contiguous_format


def transform(weight: Tensor, for_input_gradient: bool = False) -> Tensor:
    """Transform a weight (O, C, 3, 3) to the 36 points.

    Returns:
        (36, C, O), or (36, O, C) of the flipped weight for the input's gradient.
    """
    weight = _as_channels_last(weight)
    outputs, channels = weight.shape[:2]
    points = _empty(36, outputs, channels)
    _call('winograd_weight', weight, points, outputs, channels, for_input_gradient)
    return points if for_input_gradient else points.transpose(1, 2)


def _convolve(
    input: Tensor, points_of_weight: Tensor, bias: Tensor | None = None
) -> Tensor | None:
    """Return (B, O, H, W), channels-last; None if it is not finite."""
    input = _as_channels_last(input)
    batch, channels, height, width = input.shape
    outputs = points_of_weight.size(2)
    output = _empty(batch, outputs, height, width, layout=torch.channels_last)
    if bias is not None:
        bias = bias.detach().contiguous()
    is_finite = True
    for tiles in _chunks(batch, height, width):
        points, products = _workspace((tiles[1], channels), (tiles[1], outputs))
        _call('winograd_input', input, points, height, width, channels, *tiles)
        torch.bmm(points, points_of_weight, out=products)
        is_finite &= _call(
            'winograd_output', products, bias, output, height, width, outputs, *tiles
        )
    return output if is_finite else None


def _weight_gradient(input: Tensor, grad_output: Tensor) -> Tensor | None:
    """Return (O, C, 3, 3), channels-last; None if it is not finite."""
    input, grad_output = _as_channels_last(input), _as_channels_last(grad_output)
    batch, channels, height, width = input.shape
    outputs = grad_output.size(1)
    sums = _empty(36, outputs, channels).zero_()
    for tiles in _chunks(batch, height, width):
        points, grads = _workspace((tiles[1], channels), (tiles[1], outputs))
        _call('winograd_input', input, points, height, width, channels, *tiles)
        _call('winograd_gradient', grad_output, grads, height, width, outputs, *tiles)
        sums.baddbmm_(grads.transpose(1, 2), points)
    gradient = _empty(outputs, channels, 3, 3, layout=torch.channels_last)
    is_finite = _call('winograd_weight_gradient', sums, gradient, outputs, channels)
    return gradient if is_finite else None


def _as_channels_last(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous(memory_format=torch.channels_last)


def _count_tiles(batch: int, height: int, width: int) -> int:
    return batch * math.ceil(height / 4) * math.ceil(width / 4)


def _chunks(batch: int, height: int, width: int) -> list[tuple[int, int]]:
    """Return first tile and number of tiles of each chunk; sizes are about equal."""
    tiles = _count_tiles(batch, height, width)
    size = math.ceil(tiles / math.ceil(tiles / _CHUNK))
    return [(first, min(size, tiles - first)) for first in range(0, tiles, size)]


def _workspace(*shapes: tuple[int, int]) -> list[Tensor]:
    """Return tensors (36, *shape) of undefined content.

    The memory is reused in later calls: the page faults of fresh memory cost more than
    the transforms.
    """
    sizes = [36 * rows * columns for rows, columns in shapes]
    memory = getattr(_local, 'memory', None)
    if memory is None or len(memory) < sum(sizes):
        # A tensor from inference mode cannot be written to outside of it.
        with torch.inference_mode(False):
            memory = _local.memory = _empty(sum(sizes))
    return [
        part.view(36, *shape)
        for part, shape in zip(memory[: sum(sizes)].split(sizes), shapes, strict=True)
    ]


def _empty(
    *shape: int, layout: torch.memory_format = torch.contiguous_format
) -> Tensor:
    """Return memory for the kernels, in fp32 on the CPU whatever the defaults are."""
    return torch.empty(shape, dtype=torch.float32, device='cpu', memory_format=layout)


def _call(name: str, *arguments: Tensor | int | None) -> bool:
    """Run a kernel, and return whether its result is finite if the kernel checks it."""
    pointers = [x.data_ptr() if isinstance(x, Tensor) else x for x in arguments]
    return bool(getattr(_library(), name)(*pointers, torch.get_num_threads()))


@functools.cache
def _library() -> ctypes.CDLL | None:
    library = compile.load('winograd', Path(__file__).with_name('winograd.cpp'))
    if library is None:
        return None
    pointer, size, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    for name, arguments, result in (
        ('winograd_input', [pointer] * 2 + [size] * 5, None),
        ('winograd_gradient', [pointer] * 2 + [size] * 5, None),
        ('winograd_output', [pointer] * 3 + [size] * 5, flag),
        ('winograd_weight', [pointer] * 2 + [size] * 2 + [flag], None),
        ('winograd_weight_gradient', [pointer] * 2 + [size] * 2, flag),
    ):
        function = getattr(library, name)
        function.argtypes = [*arguments, ctypes.c_int]
        function.restype = result
    return library
