"""Winograd's convolution against the definition in fp64."""

import pytest
import torch
from torch.nn import functional

from focal_retinanet.ops import winograd

pytestmark = pytest.mark.skipif(
    not winograd.is_available(), reason='needs a C++ compiler'
)


def _inputs(batch, channels, outputs, height, width, layout=torch.channels_last):
    torch.manual_seed(0)
    input = torch.randn(batch, channels, height, width).to(memory_format=layout)
    weight = torch.randn(outputs, channels, 3, 3).to(memory_format=layout)
    bias = torch.randn(outputs)
    return [x.requires_grad_() for x in (input, weight, bias)]


def _relative_error(ours, reference):
    assert ours.shape == reference.shape
    return ((ours.double() - reference).abs().max() / reference.abs().max()).item()


@pytest.mark.parametrize('layout', [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(
    'shape',
    [
        (1, 1, 1, 1, 1),
        (2, 16, 32, 8, 8),
        (1, 33, 17, 5, 3),  # neither tiles nor lanes come out even
        (3, 20, 36, 2, 11),
        (1, 64, 48, 101, 99),  # more than one chunk of tiles
    ],
)
def test_values_and_gradients(shape, layout):
    inputs = _inputs(*shape, layout)
    output = winograd.conv3x3(*inputs)
    assert output.is_contiguous(memory_format=torch.channels_last)
    doubles = [x.detach().double().requires_grad_() for x in inputs]
    reference = functional.conv2d(*doubles, padding=1)
    grad_output = torch.randn(output.shape)
    grads = torch.autograd.grad(output, inputs, grad_output)
    references = torch.autograd.grad(reference, doubles, grad_output.double())
    # Kernels of 1x1 pixel cancel to something small beside their terms.
    limit = 1e-4 if output.numel() == 1 else 1e-5
    assert _relative_error(output, reference) < limit
    for ours, expected in zip(grads, references, strict=True):
        assert _relative_error(ours, expected) < limit


def test_only_what_is_asked_for():
    input, weight, bias = _inputs(1, 16, 16, 6, 6)
    output = winograd.conv3x3(input.detach(), weight.detach(), bias)
    output.sum().backward()
    assert input.grad is None and weight.grad is None
    torch.testing.assert_close(bias.grad, torch.full((16,), 36.0))
    with torch.no_grad():
        assert not winograd.conv3x3(input, weight).requires_grad


def test_second_backward_gives_the_same():
    inputs = _inputs(2, 16, 16, 9, 7)
    output = winograd.conv3x3(*inputs).square().sum()
    first = torch.autograd.grad(output, inputs, retain_graph=True)
    second = torch.autograd.grad(output, inputs)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_calls_do_not_share_results():
    """The memory between the transforms is shared, what is returned is not."""
    a, b = _inputs(1, 16, 16, 8, 8), _inputs(1, 16, 16, 8, 8)
    first = winograd.conv3x3(*a)
    kept = first.clone()
    winograd.conv3x3(-b[0], b[1])
    assert torch.equal(first, kept)


def test_empty_batch():
    input, weight, bias = _inputs(0, 16, 16, 8, 8)
    output = winograd.conv3x3(input, weight, bias)
    assert output.shape == (0, 16, 8, 8)
    output.sum().backward()
    assert not weight.grad.any()
