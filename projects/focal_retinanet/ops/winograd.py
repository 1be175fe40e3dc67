"""3x3 convolutions in a quarter of the multiplications, on a CPU.

Four fifths of RetinaNet's arithmetic are 3x3 convolutions of stride 1. By
Winograd's algorithm (Lavin and Gray, 2016), 4x4 pixels of the output take 36
multiplications for each pair of channels in place of 144. What is multiplied
are matrices, by the BLAS that torch has; the transforms before and after are in
``csrc/winograd.cpp``. The arithmetic is fp32; rounding errors are some ten times
those of the plain sum, about 1e-6 of the largest output.
"""

import ctypes
import functools
import math
import threading

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from focal_retinanet.ops import native

# Tiles at a time: enough for fast products, few enough for their transforms to
# stay small beside the feature maps.
_CHUNK = 512
_local = threading.local()


def is_available() -> bool:
    """Whether the transforms can be compiled here."""
    return _library() is not None


class TransformedWeights:
    """The weights of a convolution at the 36 points, computed when asked for.

    Args:
        weight: (O, C, 3, 3) fp32.
    """

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight.detach()

    @functools.cached_property
    def forward(self) -> Tensor:
        """(36, C, O), for the output."""
        return _transform(self._weight, flipped=False).transpose(1, 2)

    @functools.cached_property
    def backward(self) -> Tensor:
        """(36, O, C), for the gradient of the input."""
        return _transform(self._weight, flipped=True)


def conv3x3(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    transformed: TransformedWeights | None = None,
) -> Tensor:
    """Convolution of stride 1 with zero padding of 1.

    Args:
        input: (B, C, H, W) fp32 on a CPU, channels-last (else it is copied).
        weight: (O, C, 3, 3) fp32.
        bias: (O,) fp32.
        transformed: of this weight; saves the time where one weight serves
            several calls.

    Returns:
        (B, O, H, W), channels-last. Differentiable once.
    """
    if transformed is None:
        transformed = TransformedWeights(weight)
    return _Conv3x3.apply(input, weight, bias, transformed)


class _Conv3x3(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input, weight, bias, transformed):
        ctx.save_for_backward(input)
        ctx.transformed = transformed
        return _convolve(input, transformed.forward, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        (input,) = ctx.saved_tensors
        needs_input, needs_weight, needs_bias, _ = ctx.needs_input_grad
        grad_input = grad_weight = grad_bias = None
        if needs_input:
            grad_input = _convolve(grad_output, ctx.transformed.backward, None)
        if needs_weight:
            grad_weight = _weight_gradient(input, grad_output)
        if needs_bias:
            grad_bias = grad_output.sum((0, 2, 3))
        return grad_input, grad_weight, grad_bias, None


def _transform(weight: Tensor, flipped: bool) -> Tensor:
    """(O, C, 3, 3) to (36, O, C)."""
    weight = weight.contiguous(memory_format=torch.channels_last)
    outputs, channels = weight.shape[:2]
    points = weight.new_empty(36, outputs, channels)
    _call('winograd_weight', weight, points, outputs, channels, flipped)
    return points


def _convolve(input: Tensor, points_of_weight: Tensor, bias: Tensor | None) -> Tensor:
    input = input.contiguous(memory_format=torch.channels_last)
    batch, channels, height, width = input.shape
    outputs = points_of_weight.size(2)
    output = torch.empty(
        (batch, outputs, height, width), memory_format=torch.channels_last
    )
    if bias is not None:
        bias = bias.detach().contiguous()
    for tiles in _chunks(input):
        points, products = _workspace((tiles[1], channels), (tiles[1], outputs))
        _call('winograd_input', input, points, height, width, channels, *tiles)
        torch.bmm(points, points_of_weight, out=products)
        _call('winograd_output', products, bias, output, height, width, outputs, *tiles)
    return output


def _weight_gradient(input: Tensor, grad_output: Tensor) -> Tensor:
    input = input.contiguous(memory_format=torch.channels_last)
    grad_output = grad_output.contiguous(memory_format=torch.channels_last)
    _, channels, height, width = input.shape
    outputs = grad_output.size(1)
    sums = torch.zeros(36, outputs, channels)
    for tiles in _chunks(input):
        points, grads = _workspace((tiles[1], channels), (tiles[1], outputs))
        _call('winograd_input', input, points, height, width, channels, *tiles)
        _call('winograd_gradient', grad_output, grads, height, width, outputs, *tiles)
        sums.baddbmm_(grads.transpose(1, 2), points)
    gradient = torch.empty((outputs, channels, 3, 3), memory_format=torch.channels_last)
    _call('winograd_weight_gradient', sums, gradient, outputs, channels)
    return gradient


def _chunks(maps: Tensor) -> list[tuple[int, int]]:
    """First tile and number of tiles of each chunk, of about the same size."""
    batch, _, height, width = maps.shape
    tiles = batch * -(-height // 4) * -(-width // 4)
    size = math.ceil(tiles / max(math.ceil(tiles / _CHUNK), 1)) or 1
    return [(first, min(size, tiles - first)) for first in range(0, tiles, size)]


def _workspace(*shapes: tuple[int, int]) -> list[Tensor]:
    """Tensors (36, *shape) of undefined content, of memory that is kept.

    Memory that is fresh costs more, page by page, than the transforms do.
    """
    sizes = [36 * rows * columns for rows, columns in shapes]
    memory = getattr(_local, 'memory', None)
    if memory is None or len(memory) < sum(sizes):
        memory = _local.memory = torch.empty(sum(sizes))
    return [
        part.view(36, *shape)
        for part, shape in zip(memory[: sum(sizes)].split(sizes), shapes, strict=True)
    ]


def _call(name: str, *arguments: Tensor | int | None) -> None:
    pointers = [x.data_ptr() if isinstance(x, Tensor) else x for x in arguments]
    getattr(_library(), name)(*pointers, torch.get_num_threads())


@functools.cache
def _library() -> ctypes.CDLL | None:
    library = native.load('winograd')
    if library is None:
        return None
    pointer, size, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    for name, arguments in {
        'winograd_input': [pointer] * 2 + [size] * 5,
        'winograd_gradient': [pointer] * 2 + [size] * 5,
        'winograd_output': [pointer] * 3 + [size] * 5,
        'winograd_weight': [pointer] * 2 + [size] * 2 + [flag],
        'winograd_weight_gradient': [pointer] * 2 + [size] * 2,
    }.items():
        function = getattr(library, name)
        function.argtypes = [*arguments, ctypes.c_int]
        function.restype = None
    return library
