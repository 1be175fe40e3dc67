"""The fused loss of both CPU backends against the plain loss in fp64."""

import functools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.autograd import forward_ad

from focal_retinanet.ops.focal_loss import chunked as focal_loss_chunked
from focal_retinanet.ops.focal_loss import native as focal_loss_native
from focal_retinanet.ops.focal_loss.definition import sigmoid_focal_loss
from focal_retinanet.ops.focal_loss.fused import (
    sigmoid_focal_loss_of_anchors,
    sigmoid_focal_loss_sum,
)
from harness.timing import peak_memory

# The first has more cells than a tile of the kernel, the last has a single one.
SIZES = [(33, 37), (3, 2), (1, 1)]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


@pytest.fixture(params=['native', 'chunked'])
def backend(request, monkeypatch):
    """Forces a backend. The native one takes fp32 and bf16 only."""
    if request.param == 'chunked':
        monkeypatch.setattr(focal_loss_native, 'is_available', lambda logits: False)
    elif not focal_loss_native.is_available(torch.zeros(1)):
        pytest.skip('needs a C++ compiler')
    return request.param


@pytest.fixture
def small_chunks(monkeypatch):
    """Puts boundaries of chunks in small maps."""
    monkeypatch.setattr(focal_loss_chunked, '_CHUNK', {'cpu': 999})


def random_targets(levels, num_classes):
    """Return every class, background and ignored, equally often on average."""
    anchors = sum(x[0].numel() // num_classes for x in levels)
    return torch.randint(-1, num_classes + 1, (len(levels[0]), anchors))


@pytest.mark.parametrize('layout', ['contiguous', 'channels-last', 'transposed'])
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize(
    ('num_classes', 'anchors', 'sizes'),
    # 1203 classes are more than a tile of the kernel.
    [(1, 9, SIZES), (3, 2, SIZES), (80, 3, [(5, 7), (1, 1)]), (1203, 1, [(3, 5)])],
)
@pytest.mark.usefixtures('small_chunks')
def test_equals_the_plain_loss(
    backend,
    layout,
    dtype,
    num_classes,
    anchors,
    sizes,
    random_maps,
    assert_as_plain_loss,
):
    torch.manual_seed(0)
    levels = random_maps(sizes, anchors * num_classes, dtype, layout)
    targets = random_targets(levels, num_classes)
    scale = torch.tensor(1 / 3, dtype=torch.float64)
    assert_as_plain_loss(
        levels, targets, num_classes, torch.rand(targets.shape), scale, upstream=1.1
    )


@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**31),
    sizes=st.lists(
        st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3
    ),
    batch=st.integers(1, 3),
    anchors=st.integers(1, 4),
    num_classes=st.integers(1, 7),
    layout=st.sampled_from(['contiguous', 'channels-last']),
    gamma=st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]),
    alpha=st.sampled_from([0.25, 0.9, None, 'of each class']),
    label_smoothing=st.sampled_from([0.0, 0.1]),
    has_weights=st.booleans(),
)
@pytest.mark.usefixtures('small_chunks')
def test_equals_the_plain_loss_for_any_options(
    backend,
    random_maps,
    assert_as_plain_loss,
    seed,
    sizes,
    batch,
    anchors,
    num_classes,
    layout,
    gamma,
    alpha,
    label_smoothing,
    has_weights,
):
    torch.manual_seed(seed)
    levels = random_maps(sizes, anchors * num_classes, layout=layout, batch=batch)
    targets = random_targets(levels, num_classes)
    if alpha == 'of each class':
        alpha = torch.rand(num_classes).tolist()
    assert_as_plain_loss(
        levels,
        targets,
        num_classes,
        torch.rand(targets.shape) if has_weights else None,
        gamma=gamma,
        alpha=alpha,
        label_smoothing=label_smoothing,
    )


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize('label_smoothing', [0.0, 0.1])
def test_extreme_logits(backend, dtype, gamma, label_smoothing, assert_as_plain_loss):
    extremes = [-1e4, -100.0, -87.5, -20.0, 0.0, 20.0, 87.5, 100.0, 1e4]
    logits = torch.tensor(extremes).to(dtype).view(1, 1, 3, 3).repeat(3, 1, 1, 1)
    targets = torch.tensor([0, 1, -1])[:, None].expand(3, 9)  # y = 1, y = 0, ignored
    assert_as_plain_loss(
        [logits.requires_grad_()],
        targets,
        1,
        gamma=gamma,
        label_smoothing=label_smoothing,
    )


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
@pytest.mark.parametrize('label_smoothing', [0.0, 0.1])
def test_infinite_logits(backend, dtype, gamma, label_smoothing):
    logits = torch.tensor([[torch.inf, -torch.inf], [torch.inf, -torch.inf]])
    levels = [logits.t().reshape(1, 2, 2, 1).to(dtype).requires_grad_()]
    options = dict(gamma=gamma, label_smoothing=label_smoothing)
    right = sigmoid_focal_loss_sum(levels, torch.tensor([[0, -1]]), 2, **options)
    wrong = sigmoid_focal_loss_sum(levels, torch.tensor([[1, -1]]), 2, **options)
    assert wrong.isinf()
    # Smoothed cross entropy alone grows with the logit.
    assert right > 1e20 if label_smoothing and not gamma else right < 1e-8
    for loss in (right, wrong):
        (gradient,) = torch.autograd.grad(loss, levels)
        assert gradient.isfinite().all()
        assert (gradient.abs() > 1e-6).any() == (loss > 1e-8)


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
@pytest.mark.parametrize('target', [0, 1])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_nan_reaches_the_loss_and_its_gradient(
    backend, random_maps, gamma, target, dtype
):
    levels = random_maps(SIZES, 1, dtype)
    with torch.no_grad():
        levels[0][1, 0, 5, 5] = torch.nan
    targets = torch.full((2, sum(h * w for h, w in SIZES)), target)
    loss = sigmoid_focal_loss_sum(levels, targets, 1, gamma=gamma)
    assert loss.isnan()
    gradients = torch.autograd.grad(loss, levels)
    assert gradients[0][1, 0, 5, 5].isnan()
    assert sum(g.isnan().sum() for g in gradients) == 1


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('height', [[0], [0, 2], [2, 0]])
def test_levels_without_anchors(backend, dtype, height, random_maps):
    levels = random_maps([(h, 3) for h in height], 4, dtype)
    targets = random_targets(levels, 2)
    loss = sigmoid_focal_loss_sum(levels, targets, 2)
    assert (loss > 0) == (sum(height) > 0)
    loss.backward()
    assert [x.grad.shape for x in levels] == [x.shape for x in levels]


def test_ignore_index_may_be_a_class(backend, random_maps, assert_as_plain_loss):
    levels = random_maps(SIZES, 6)
    targets = random_targets(levels, 3).clamp(min=0)
    assert_as_plain_loss(levels, targets, 3, ignore_index=1)


@pytest.mark.parametrize('dtype', [torch.int32, torch.int16, torch.uint8])
def test_targets_of_any_integer_type(backend, random_maps, dtype):
    levels = random_maps(SIZES, 6)
    targets = random_targets(levels, 3).clamp(min=0)
    expected = sigmoid_focal_loss_sum(levels, targets, 3)
    assert torch.equal(sigmoid_focal_loss_sum(levels, targets.to(dtype), 3), expected)


@pytest.mark.parametrize('of_levels', [True, False])
@pytest.mark.parametrize('name', ['weights', 'scale'])
def test_factors_get_their_gradient(backend, random_maps, name, of_levels):
    levels = [level.requires_grad_(of_levels) for level in random_maps(SIZES, 6)]
    targets = random_targets(levels, 3)
    factors = dict(weights=torch.rand(targets.shape), scale=torch.tensor(0.7))
    factor = factors[name].requires_grad_()
    loss = sigmoid_focal_loss_sum(levels, targets, 3, **factors)
    loss.backward()
    of_anchors = sigmoid_focal_loss_of_anchors(levels, targets, 3)
    expected = 0.7 * of_anchors
    if name == 'scale':
        expected = (factors['weights'] * of_anchors).sum()
    torch.testing.assert_close(factor.grad, expected)
    factor.requires_grad_(False)
    if of_levels:
        fused = sigmoid_focal_loss_sum(levels, targets, 3, **factors)
        torch.testing.assert_close(fused, loss)
        expected = torch.autograd.grad(fused, levels)
        torch.testing.assert_close([level.grad for level in levels], list(expected))


def test_forward_mode_derivatives(backend, random_maps):
    levels = random_maps(SIZES, 6)
    targets = random_targets(levels, 3)
    gradients = torch.autograd.grad(sigmoid_focal_loss_sum(levels, targets, 3), levels)
    tangents = [torch.randn_like(level) for level in levels]
    expected = sum((g * t).sum() for g, t in zip(gradients, tangents, strict=True))
    with forward_ad.dual_level():
        duals = [
            forward_ad.make_dual(level.detach(), tangent)
            for level, tangent in zip(levels, tangents, strict=True)
        ]
        loss = sigmoid_focal_loss_sum(duals, targets, 3)
        tangent = forward_ad.unpack_dual(loss).tangent.float()  # torch 2.1: double
        torch.testing.assert_close(tangent, expected, rtol=1e-4, atol=1e-4)


def test_bytes_are_no_negative_numbers(backend, random_maps):
    levels = random_maps([(2, 2)], 3)
    targets = torch.tensor([[0, 1, 2, 255]] * 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match='target 255 is not in'):
        sigmoid_focal_loss_sum(levels, targets, 3)
    ignored = targets.long().masked_fill(targets == 255, -1)
    expected = sigmoid_focal_loss_sum(levels, ignored, 3)
    assert sigmoid_focal_loss_sum(levels, targets, 3, ignore_index=255) == expected


def test_targets_and_weights_of_any_strides(backend, random_maps):
    levels = random_maps(SIZES, 6)
    targets = random_targets(levels, 3)
    weights = torch.rand(targets.shape)
    expected = sigmoid_focal_loss_sum(levels, targets, 3, weights)
    strided = [x.t().contiguous().t() for x in (targets, weights)]
    assert torch.equal(
        sigmoid_focal_loss_sum(levels, strided[0], 3, strided[1]), expected
    )


@pytest.mark.parametrize('dtype', DTYPES)
def test_second_backward_equals_the_first(backend, random_maps, dtype):
    levels = random_maps(SIZES, 6, dtype)
    loss = sigmoid_focal_loss_sum(levels, random_targets(levels, 3), 3)
    first = torch.autograd.grad(loss, levels, retain_graph=True)
    scaled = torch.autograd.grad(loss * 4, levels, retain_graph=True)
    loss.backward(retain_graph=True)
    loss.backward()
    for x, once, four_times in zip(levels, first, scaled, strict=True):
        # Not exact in fp16, where g may be subnormal and 4 g not.
        torch.testing.assert_close(four_times, once * 4, rtol=1e-3, atol=2e-7)
        torch.testing.assert_close(x.grad, once * 2, rtol=0, atol=0)


@pytest.mark.skipif(
    not hasattr(torch._C._autograd, '_get_current_graph_task_keep_graph'),
    reason='this torch does not tell that a graph is kept, and raises an error',
)
def test_a_gradient_may_be_changed_in_place_before_the_second_backward(
    backend, random_maps
):
    levels = random_maps(SIZES, 6)
    loss = sigmoid_focal_loss_sum(levels, random_targets(levels, 3), 3)
    first = torch.autograd.grad(loss, levels, retain_graph=True)
    expected = [gradient.clone() for gradient in first]
    for gradient in first:
        gradient.mul_(100)
    second = torch.autograd.grad(loss, levels)
    assert all(map(torch.equal, second, expected))


def test_gradient_adds_to_that_of_another_loss(backend, random_maps):
    levels = random_maps([(4, 5)], 6)
    activations = levels[0] * 1.0  # not a leaf, used twice
    fused = sigmoid_focal_loss_sum([activations], random_targets(levels, 3), 3)
    (alone,) = torch.autograd.grad(fused, levels, retain_graph=True)
    (both,) = torch.autograd.grad(fused + activations.sum(), levels, retain_graph=True)
    torch.testing.assert_close(both, alone + 1)
    (again,) = torch.autograd.grad(fused, levels)
    assert torch.equal(again, alone)


def test_fp16_gradient_does_not_underflow_before_it_is_scaled(backend):
    # Gradients of 8.5e-11 are zero in fp16 unless they are scaled.
    logits = torch.full((1, 1, 8, 8), -8.0, dtype=torch.float16, requires_grad=True)
    targets = torch.ones(1, 64, dtype=torch.int64)
    loss = sigmoid_focal_loss_sum([logits], targets, 1)
    (unscaled,) = torch.autograd.grad(loss, logits, retain_graph=True)
    assert not unscaled.any()
    (scaled,) = torch.autograd.grad(loss * 65536, logits)
    exact = torch.full((64, 1), -8.0, dtype=torch.float64, requires_grad=True)
    (sigmoid_focal_loss(exact, targets[0]).sum() * 65536).backward()
    torch.testing.assert_close(
        scaled.double().view(64, 1), exact.grad, rtol=1e-2, atol=0
    )


def test_factor_of_a_bf16_gradient_is_not_rounded(backend, random_maps):
    levels = random_maps([(40, 40)], 6, torch.bfloat16)
    loss = sigmoid_focal_loss_sum(levels, random_targets(levels, 3), 3)
    (once,) = torch.autograd.grad(loss, levels, retain_graph=True)
    (scaled,) = torch.autograd.grad(loss * 1.1, levels)
    nonzero = once != 0
    ratio = (scaled[nonzero].double() / once[nonzero].double()).mean()
    assert ratio.item() == pytest.approx(1.1, rel=3e-4)  # in bf16, 1.1 is 1.1016


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('layout', ['contiguous', 'channels-last'])
def test_value_is_the_same_without_gradient(backend, random_maps, dtype, layout):
    levels = random_maps(SIZES, 6, dtype, layout)
    targets = random_targets(levels, 3)
    expected = sigmoid_focal_loss_sum(levels, targets, 3)
    assert expected.requires_grad
    with torch.no_grad():
        under_no_grad = sigmoid_focal_loss_sum(levels, targets, 3)
    detached = sigmoid_focal_loss_sum([x.detach() for x in levels], targets, 3)
    for loss in (under_no_grad, detached):
        assert not loss.requires_grad
        torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


def test_only_some_levels_require_a_gradient(backend, random_maps):
    levels = random_maps(SIZES, 6)
    targets = random_targets(levels, 3)
    expected = torch.autograd.grad(sigmoid_focal_loss_sum(levels, targets, 3), levels)
    levels[1].requires_grad_(False)
    sigmoid_focal_loss_sum(levels, targets, 3).backward()
    assert torch.equal(levels[0].grad, expected[0])
    assert levels[1].grad is None


@pytest.mark.parametrize('layout', ['contiguous', 'channels-last'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_every_run_gives_the_same_bits(
    backend, random_maps, dtype, layout, number_of_threads
):
    levels = random_maps([(90, 100), (7, 5)], 9, dtype, layout)
    targets = random_targets(levels, 3)
    runs = {}
    for threads in (1, 1, 2, 2):
        number_of_threads(threads)
        loss = sigmoid_focal_loss_sum(levels, targets, 3)
        result = (loss, *torch.autograd.grad(loss, levels))
        # The last bit of PyTorch's sigmoid depends on how the work is split.
        same = runs.setdefault(threads if backend == 'chunked' else 'any', result)
        assert all(torch.equal(a, b) for a, b in zip(result, same, strict=True))


@pytest.mark.parametrize('layout', ['contiguous', 'channels-last'])
def test_memory_does_not_grow_with_the_elements(
    backend, random_maps, layout, monkeypatch
):
    monkeypatch.setattr(focal_loss_chunked, '_CHUNK', {'cpu': 2**14})
    (logits,) = random_maps([(64, 64)], 9 * 200, layout=layout, batch=1)
    targets = torch.full((1, 9 * 64 * 64), 200)
    size = logits.numel() * 4 / 2**20  # 28 MiB

    def peak(logits):
        loss = functools.partial(sigmoid_focal_loss_sum, [logits], targets, 200)
        loss()  # threads and other things that are made once do not count
        return peak_memory(loss, torch.device('cpu'))

    if peak(logits) is None:
        pytest.skip('the system does not record peak memory')
    assert peak(logits.detach()) < 0.2 * size
    assert peak(logits) < 1.2 * size  # the gradient and no copy of it


ZEROS = torch.zeros(2, 6, 2, 2)
TARGETS = torch.zeros(2, 8, dtype=torch.int64)


@pytest.mark.parametrize(
    ('levels', 'targets', 'options', 'says'),
    [
        ([ZEROS], TARGETS + 4, {}, r'target 4 is not in 0\.\.3'),
        ([ZEROS], TARGETS - 2, {}, 'target -2 is not in'),
        ([ZEROS], TARGETS[:, :7], {}, r'targets must have the shape \(2, 8\)'),
        ([ZEROS], TARGETS.flatten(), {}, r'targets must have .* got \(16,\)'),
        ([ZEROS], TARGETS.float(), {}, 'integer class indices, got torch.float32'),
        ([ZEROS], TARGETS.to('meta'), {}, 'targets .* on cpu; got .* on meta'),
        ([ZEROS], TARGETS, dict(weights=torch.ones(8)), 'weights must have'),
        ([ZEROS], TARGETS, dict(alpha=[0.1, 0.2]), 'alpha has 2 numbers for 3'),
        ([ZEROS], TARGETS, dict(alpha=1.5), r'alpha must be in \[0, 1\], got 1.5'),
        ([ZEROS[:, :5]], TARGETS, {}, 'levels have 5 channels'),
        ([ZEROS.long()], TARGETS, {}, 'levels must be floating'),
        # The kernel would read all levels like the first one.
        ([ZEROS[:1], ZEROS[:, :, :1]], TARGETS, {}, 'agree in images'),
        ([ZEROS[:, :3], ZEROS], TARGETS, {}, 'agree in images, channels'),
        ([ZEROS, ZEROS.bfloat16()], TARGETS, {}, 'agree in images, channels, dtype'),
    ],
)
def test_bad_input_is_named(backend, levels, targets, options, says):
    with pytest.raises(ValueError, match=says):
        sigmoid_focal_loss_sum(levels, targets, 3, **options)
