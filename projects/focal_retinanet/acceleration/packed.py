"""Convolutions of frozen weights, which oneDNN reorders once instead of in each call.

PyTorch's convolution on a CPU brings its weight into oneDNN's order first. On maps of
20x20 pixels and below this takes a fifth to half of its time. torch.compile calls the
operators that are used here, too.
"""

import functools

import torch
from torch import Tensor, nn

from focal_retinanet.acceleration.frozen import is_frozen, keep
from focal_retinanet.acceleration.winograd import output_layout
from focal_retinanet.ops.fast_paths.autocast import autocast_dtype
from focal_retinanet.ops.fast_paths.eager import has_tangents, is_eager


def convolve(
    conv: nn.Conv2d, input: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor | None:
    """Return the convolution of maps (B, C, H, W), or None if it cannot be done here.

    It is done for frozen modules, see
    :func:`~focal_retinanet.acceleration.fast_conv.freeze_weights`, in fp32, channels last,
    without gradients.

    Args:
        conv: Convolution, for its stride, padding, dilation and groups.
        input: Maps (B, C, H, W).
        weight: Weight (O, C / groups, h, w).
        bias: Bias (O,).
    """
    if not is_frozen(conv) or not is_eager(input, weight, bias):
        return None
    tensors = [x for x in (input, weight, bias) if x is not None]
    if (
        any(x.device.type != 'cpu' or x.dtype != torch.float32 for x in tensors)
        or autocast_dtype('cpu') is not None
        or input.dim() != 4
        or input.numel() == 0
        or not input.is_contiguous(memory_format=torch.channels_last)
        or output_layout(input, weight) != torch.channels_last
        or has_tangents(*tensors)
        or conv.padding_mode != 'zeros'
        # PyTorch's own convolution also takes an int, a list and (for padding) a name.
        or any(type(x) is not tuple for x in (conv.stride, conv.padding, conv.dilation))
        or input.size(1) != conv.in_channels
        or not (torch.backends.mkldnn.enabled and _is_available())
    ):
        return None
    # oneDNN's best order depends on the size of the maps.
    shape = tuple(input.shape)
    name = ('packed', shape, conv.stride, conv.padding, conv.dilation, conv.groups)
    packed = keep(conv, name, [weight], lambda: _pack(conv, weight, shape))
    return _run(conv, input, packed, bias)


def _pack(conv: nn.Conv2d, weight: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch._C._nn.mkldnn_reorder_conv2d_weight(
        weight.detach().contiguous().to_mkldnn(),
        conv.padding,
        conv.stride,
        conv.dilation,
        conv.groups,
        shape,
    )


def _run(conv: nn.Conv2d, input: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._convolution_pointwise(
        input,
        packed,
        bias,
        conv.padding,
        conv.stride,
        conv.dilation,
        conv.groups,
        'none',
        [],
        '',
    )


@functools.cache
def _is_available() -> bool:
    """Whether this torch has the operators, with the results of its convolution."""
    conv = nn.Conv2d(4, 4, 3, stride=2, padding=1)
    images = torch.ones(1, 4, 6, 8).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(False), torch.no_grad():
        expected = conv(images)
        try:
            found = _run(
                conv, images, _pack(conv, conv.weight, images.shape), conv.bias
            )
        except (AttributeError, RuntimeError, TypeError):
            return False  # internal operators may go or change in any release
    return torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
