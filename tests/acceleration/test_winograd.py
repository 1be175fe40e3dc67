"""Winograd's convolution against PyTorch's in fp64."""

import logging

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from focal_retinanet.acceleration import winograd

pytestmark = [
    pytest.mark.skipif(not winograd.is_available(), reason='needs a C++ compiler'),
    pytest.mark.usefixtures('kernel_calls'),
]


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
        (1, 33, 17, 5, 3),  # a multiple of neither tiles nor lanes
        (3, 20, 36, 2, 11),
        (1, 64, 48, 101, 99),  # more than one chunk of tiles
    ],
)
def test_values_and_gradients(shape, layout):
    inputs = _inputs(*shape, layout)
    output = winograd.conv3x3(*inputs)
    assert output.stride() == functional.conv2d(*inputs, padding=1).stride()
    doubles = [x.detach().double().requires_grad_() for x in inputs]
    reference = functional.conv2d(*doubles, padding=1)
    grad_output = torch.randn(output.shape)
    grads = torch.autograd.grad(output, inputs, grad_output)
    references = torch.autograd.grad(reference, doubles, grad_output.double())
    # For 1x1 pixels, large terms cancel.
    limit = 1e-4 if output.numel() == 1 else 1e-5
    assert _relative_error(output, reference) < limit
    for ours, expected in zip(grads, references, strict=True):
        assert _relative_error(ours, expected) < limit


def test_only_needed_gradients_are_computed():
    input, weight, bias = _inputs(1, 16, 16, 6, 6)
    output = winograd.conv3x3(input.detach(), weight.detach(), bias)
    output.sum().backward()
    assert input.grad is None and weight.grad is None
    torch.testing.assert_close(bias.grad, torch.full((16,), 36.0))
    with torch.no_grad():
        assert not winograd.conv3x3(input, weight).requires_grad


def test_second_backward_equals_the_first():
    inputs = _inputs(2, 16, 16, 9, 7)
    output = winograd.conv3x3(*inputs).square().sum()
    first = torch.autograd.grad(output, inputs, retain_graph=True)
    second = torch.autograd.grad(output, inputs)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_calls_do_not_share_results():
    """Working memory is shared between calls, results are not."""
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


def test_small_maps_are_computed_by_pytorch(monkeypatch, kernel_calls):
    monkeypatch.setattr(winograd, '_MIN_TILES', 32)
    winograd.conv3x3(*_inputs(2, 16, 16, 16, 15))  # 2 x 4 x 4 tiles
    assert kernel_calls
    kernel_calls.clear()
    inputs = _inputs(1, 16, 16, 31, 12)  # 1 x 8 x 3 tiles
    expected = functional.conv2d(*inputs, padding=1)
    assert torch.equal(winograd.conv3x3(*inputs), expected)
    assert not kernel_calls


def test_gradient_of_a_gradient():
    """All that the gradients depend on gets one."""
    inputs = _inputs(2, 16, 20, 9, 7)
    grad_output = torch.randn(2, 20, 9, 7).requires_grad_()
    results = []
    for dtype in (torch.float32, torch.float64):
        x = [t.detach().to(dtype).requires_grad_() for t in (*inputs, grad_output)]
        if dtype == torch.float32:
            output = winograd.conv3x3(*x[:3])
        else:
            output = functional.conv2d(*x[:3], padding=1)
        grads = torch.autograd.grad(output, x[:3], x[3], create_graph=True)
        loss = sum(grad.square().sum() for grad in grads)
        results.append([*grads, *torch.autograd.grad(loss, [x[0], x[1], x[3]])])
    for ours, expected in zip(*results, strict=True):
        assert _relative_error(ours, expected) < 1e-5


@pytest.mark.parametrize('needed', ['input', 'weight', 'bias'])
@pytest.mark.parametrize('changed', ['input', 'weight', 'bias'])
def test_changes_in_place_are_errors_as_in_pytorch(changed, needed):
    errors = []
    for conv in (winograd.conv3x3, lambda *x: functional.conv2d(*x, padding=1)):
        names = ('input', 'weight', 'bias')
        tensors = dict(zip(names, _inputs(2, 16, 16, 8, 8), strict=True))
        for name, tensor in tensors.items():
            tensor.requires_grad_(name == needed)
        output = conv(*tensors.values()).square().sum()
        with torch.no_grad():
            tensors[changed].mul_(2)
        try:
            output.backward()
            errors.append('')
        except RuntimeError as error:
            errors.append(str(error)[:90])
    assert errors[0] == errors[1]
    assert ('inplace' in errors[0]) == (changed != 'bias')


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf'), 2e38])
@pytest.mark.parametrize('where', ['input', 'weight', 'bias', 'grad_output'])
def test_values_that_are_not_finite_do_not_spread(where, value, kernel_calls):
    """A tile would spread them. 2e38 overflows in a tile but not in the sum."""
    tensors = _inputs(2, 16, 24, 13, 10)
    grad_output = torch.randn(2, 24, 13, 10)
    target = {
        'input': tensors[0].data[1, 3],
        'weight': tensors[1].data[5, 3],
        'bias': tensors[2].data[None, 3:4],
        'grad_output': grad_output[1, 3],
    }[where]
    target[-1, -1] = value
    if value == 2e38:  # with small enough weights
        tensors[1].data.mul_(0 if where == 'weight' else 1e-3)
    results = []
    for conv in (winograd.conv3x3, lambda *x: functional.conv2d(*x, padding=1)):
        output = conv(*tensors)
        results.append([output, *torch.autograd.grad(output, tensors, grad_output)])
    assert kernel_calls
    for ours, expected in zip(*results, strict=True):
        assert torch.equal(ours.isnan(), expected.isnan())
        assert torch.equal(ours.isinf(), expected.isinf())


@pytest.mark.parametrize(
    'shapes',
    [
        [(16, 8, 8), (16, 16, 3, 3)],  # no batch
        [(2, 16, 8, 8), (16, 16, 1, 1)],
    ],
    ids=str,
)
def test_other_shapes_are_computed_by_pytorch(shapes, kernel_calls):
    input, weight = map(torch.randn, shapes)
    expected = functional.conv2d(input, weight, padding=1)
    assert torch.equal(winograd.conv3x3(input, weight), expected)
    assert not kernel_calls


@pytest.mark.parametrize(
    'shapes',
    [
        [(2, 16, 8, 8), (16, 15, 3, 3)],
        [(2, 16, 8, 8), (16, 16, 3, 3), (15,)],
        [(2, 16, 0, 8), (16, 16, 3, 3)],
        [(8, 8), (16, 16, 3, 3)],
    ],
    ids=str,
)
def test_wrong_shapes_raise_as_in_pytorch(shapes):
    tensors = [torch.randn(shape) for shape in shapes]
    with pytest.raises(RuntimeError) as expected:
        functional.conv2d(*tensors, padding=1)
    with pytest.raises(RuntimeError) as error:
        winograd.conv3x3(*tensors)
    assert str(error.value) == str(expected.value)


def test_inference_mode_before_training(monkeypatch):
    monkeypatch.setattr(winograd._local, 'memory', None, raising=False)
    inputs = _inputs(2, 16, 16, 9, 7)
    with torch.inference_mode():
        inferred = winograd.conv3x3(*inputs)
        assert inferred.is_inference()
    output = winograd.conv3x3(*inputs)
    output.sum().backward()
    assert torch.equal(output, inferred)


def test_inference_tensors_are_refused_as_in_pytorch():
    _, weight, bias = _inputs(2, 16, 16, 9, 7)
    with torch.inference_mode():
        input = torch.randn(2, 16, 9, 7)
    with pytest.raises(RuntimeError, match='Inference tensors cannot be saved'):
        winograd.conv3x3(input, weight, bias)
    with torch.no_grad():
        expected = functional.conv2d(input, weight, bias, padding=1)
        ours = winograd.conv3x3(input, weight, bias)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)


def test_sign_that_is_not_in_memory():
    """The imaginary part of a conjugate is a view that is negated on access."""
    _, weight, _ = _inputs(2, 16, 16, 9, 7)
    input = torch.view_as_complex(torch.randn(2, 16, 9, 7, 2)).conj().imag
    assert input.is_neg()
    ours = winograd.conv3x3(input, weight)
    expected = functional.conv2d(input, weight, padding=1)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)


def _forward_mode(input, weight):
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(input, input.flip(2))
        return forward_ad.unpack_dual(winograd.conv3x3(dual, weight)).tangent


def _autocast(input, weight):
    with torch.autocast('cpu', torch.bfloat16):
        return winograd.conv3x3(input, weight)


class _Mode(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        output = func(*args, **kwargs or {})
        return output * 0 if func is functional.conv2d else output


def _function_mode(input, weight):
    with _Mode():
        output = winograd.conv3x3(input, weight)
    assert not output.any()


def _rounded_products(input, weight):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('medium')
    try:
        return winograd.conv3x3(input, weight)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ('call', 'reason'),
    [
        (lambda x, w: winograd.conv3x3(x.double(), w.double()), 'fp32 only'),
        (lambda x, w: winograd.conv3x3(x.to('meta'), w.to('meta')), 'CPUs only'),
        (lambda x, w: torch.vmap(winograd.conv3x3, (0, None))(x[None], w), 'compiled'),
        (_forward_mode, 'forward-mode'),
        (_function_mode, 'transformed'),
        (_autocast, 'autocast'),
        (_rounded_products, 'less precision'),
    ],
)
def test_says_once_why_it_steps_aside(call, reason, kernel_calls, caplog):
    input, weight, _ = (x.detach() for x in _inputs(2, 16, 16, 9, 7))
    with caplog.at_level(logging.WARNING, logger='focal_retinanet'):
        for _ in range(2):
            call(input, weight)
    assert not kernel_calls
    (message,) = [r.getMessage() for r in caplog.records]
    assert reason in message
    winograd.conv3x3(input, weight)
    assert kernel_calls
