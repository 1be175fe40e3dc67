"""The fused loss in every way that a framework may call it, against the plain loss.

The plain loss is computed for each element by PyTorch's operators from the same maps.
The fused loss is called as a detector calls it.
"""

import copy
import threading

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from focal_retinanet.models import FocalLoss
from focal_retinanet.ops.focal_loss import backends as focal_loss_backends
from focal_retinanet.ops.focal_loss import chunked as focal_loss_chunked
from focal_retinanet.ops.focal_loss import native as focal_loss_native
from focal_retinanet.ops.focal_loss import operator as focal_loss_operator
from focal_retinanet.ops.focal_loss.definition import sigmoid_focal_loss
from focal_retinanet.ops.focal_loss.fused import (
    _prepare,
    sigmoid_focal_loss_of_anchors,
    sigmoid_focal_loss_sum,
)

K, ANCHORS, SIZES = 3, 2, [(5, 7), (2, 3), (1, 1)]
needs_operators = pytest.mark.skipif(
    not focal_loss_operator.is_available(), reason='torch before 2.4 has no custom_op'
)


@pytest.fixture(params=['native', 'chunked', 'chunked as on a device'])
def backend(request, monkeypatch):
    if request.param == 'native':
        if not focal_loss_native.is_available([torch.zeros(1)]):
            pytest.skip('needs a C++ compiler')
        return request.param
    monkeypatch.setattr(focal_loss_native, 'is_available', lambda levels: False)
    if request.param == 'chunked as on a device':
        chunks = focal_loss_chunked._device_chunks
        monkeypatch.setattr(focal_loss_chunked, '_cpu_chunks', chunks)
        monkeypatch.setattr(focal_loss_chunked, '_CHUNK', {'cpu': 50})
    return request.param


@pytest.fixture(params=['contiguous', 'channels-last'])
def layout(request):
    return {
        'contiguous': torch.contiguous_format,
        'channels-last': torch.channels_last,
    }[request.param]


def make_maps(layout=torch.contiguous_format, dtype=torch.float32, batch=2):
    generator = torch.Generator().manual_seed(0)
    maps = [
        (torch.randn(batch, ANCHORS * K, h, w, generator=generator) * 3).to(dtype)
        for h, w in SIZES
    ]
    return [m.to(memory_format=layout).requires_grad_() for m in maps]


def make_targets(batch=2):
    generator = torch.Generator().manual_seed(1)
    anchors = sum(h * w * ANCHORS for h, w in SIZES)
    return torch.randint(-1, K + 1, (batch, anchors), generator=generator)


def fused(maps, targets, **options):
    return sigmoid_focal_loss_sum(maps, targets, K, scale=0.3, **options)


def elements(maps, targets, **options):
    """Return the plain loss (B*N, K) of each element."""
    rows = torch.cat([m.permute(0, 2, 3, 1).flatten(1) for m in maps], dim=1)
    return sigmoid_focal_loss(rows.view(-1, K), targets.flatten(), **options)


def plain(maps, targets, **options):
    return elements(maps, targets, **options).sum() * 0.3


def assert_same(maps, targets, loss_of=fused, rtol=2e-5, **options):
    loss, expected = loss_of(maps, targets, **options), plain(maps, targets, **options)
    torch.testing.assert_close(loss, expected, rtol=rtol, atol=1e-7)
    grads = torch.autograd.grad(loss, maps)
    for a, b in zip(grads, torch.autograd.grad(expected, maps), strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=1e-7)


def test_grad(backend, layout):
    assert_same(make_maps(layout), make_targets())


def test_no_grad(backend, layout):
    maps, targets = make_maps(layout), make_targets()
    with torch.no_grad():
        loss = fused(maps, targets)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, plain(maps, targets).detach())


def test_inference_mode_before_training(backend, layout):
    """Nothing that inference mode created is reused in training."""
    maps, targets = make_maps(layout), make_targets()
    alpha = [0.1, 0.2, 0.7]  # converted to a tensor in the call
    with torch.inference_mode():
        inside = fused(maps, targets, alpha=alpha)
        losses = sigmoid_focal_loss_of_anchors(maps, targets, K, alpha=alpha)
    torch.testing.assert_close(inside, plain(maps, targets, alpha=alpha).detach())
    torch.testing.assert_close(losses.sum() * 0.3, inside)
    assert_same(maps, targets, alpha=alpha)
    plain(maps, targets, alpha=alpha).backward()


def test_fp64(backend, layout):
    assert_same(make_maps(layout, torch.float64), make_targets(), rtol=1e-12)


def test_default_dtype_of_float64(backend, layout):
    torch.set_default_dtype(torch.float64)
    try:
        assert_same(make_maps(layout, torch.float32), make_targets())
        maps, targets = make_maps(layout, torch.float32), make_targets()
        losses = sigmoid_focal_loss_of_anchors(maps, targets, K)
        expected = elements(maps, targets).sum(1).view(targets.shape)
        assert losses.dtype == torch.float32
        torch.testing.assert_close(losses, expected.detach())
    finally:
        torch.set_default_dtype(torch.float32)


def test_default_device_of_meta(backend, layout):
    maps, targets = make_maps(layout), make_targets()
    expected = plain(maps, targets)
    torch.set_default_device('meta')
    try:
        loss = fused(maps, targets, alpha=[0.25] * K)
        losses = sigmoid_focal_loss_of_anchors(maps, targets, K)
        loss.backward()
    finally:
        torch.set_default_device(None)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(losses.sum() * 0.3, expected.detach())


def test_autocast(backend, layout):
    """Maps are bf16, as convolutions return them, and the arithmetic is fp32."""
    maps, targets = make_maps(layout), make_targets()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        logits = [(m * 1.0).bfloat16() for m in maps]
        loss = fused(logits, targets)
    assert loss.dtype == torch.float32
    expected = plain(logits, targets)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    for a, b in zip(
        torch.autograd.grad(loss, maps, retain_graph=True),
        torch.autograd.grad(expected, maps),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-7)


def test_accumulation_and_shared_module(backend, layout):
    conv = nn.Conv2d(4, ANCHORS * K, 1)
    targets, loss_cls = make_targets(), FocalLoss(loss_weight=0.3)

    def by_component(maps, targets):
        return loss_cls.sum_over_levels(maps, targets, None, 1.0, K)

    inputs = [torch.randn(2, 4, h, w).to(memory_format=layout) for h, w in SIZES]
    gradients = []
    for loss_of in (by_component, plain):
        conv.zero_grad()
        for _ in range(2):
            loss_of([conv(x) for x in inputs], targets).backward()
        gradients.append((conv.weight.grad.clone(), conv.bias.grad.clone()))
    torch.testing.assert_close(*gradients, rtol=2e-5, atol=1e-6)


def test_deepcopy_and_load_state_dict(backend):
    loss_cls = FocalLoss(gamma=1.5, alpha=[0.1, 0.2, 0.7])
    assert not loss_cls.state_dict()
    other = copy.deepcopy(loss_cls)
    other.load_state_dict(loss_cls.state_dict())
    maps, targets = make_maps(), make_targets()
    a, b = (
        loss.sum_over_levels(maps, targets, None, 1.0, K) for loss in (loss_cls, other)
    )
    assert torch.equal(a, b)


def test_maps_changed_in_place_between_forward_and_backward(backend):
    """The gradient belongs to the values that the loss saw."""
    leaves, targets = make_maps(), make_targets()
    expected = torch.autograd.grad(plain(leaves, targets), leaves)
    maps = [m * 1.0 for m in leaves]
    loss = fused(maps, targets)
    for m in maps:
        m.data.zero_()
    for a, b in zip(torch.autograd.grad(loss, leaves), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=1e-7)


def test_second_derivative_is_refused(backend):
    maps, targets = make_maps(), make_targets()
    gradients = torch.autograd.grad(fused(maps, targets), maps, create_graph=True)
    for a, b in zip(
        gradients, torch.autograd.grad(plain(maps, targets), maps), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=1e-7)
    # With another term, a constant gradient would not be noticed.
    penalty = gradients[0].square().sum() + maps[0].square().sum()
    with pytest.raises(
        RuntimeError, match='the fused focal loss has no second derivative'
    ):
        penalty.backward()


def test_several_upstream_gradients_at_once(backend):
    maps, targets = make_maps(), make_targets()
    loss = fused(maps, targets)
    factors = torch.tensor([1.0, 2.0])
    batched = torch.autograd.grad(
        loss, maps, factors, is_grads_batched=True, retain_graph=True
    )
    for a, b in zip(batched, torch.autograd.grad(loss, maps), strict=True):
        torch.testing.assert_close(a, torch.stack([b, 2 * b]))


@pytest.mark.parametrize('batch', [0, 1])
def test_empty_batch(backend, layout, batch):
    assert_same(make_maps(layout, batch=batch), make_targets(batch))
    maps = [m.detach().requires_grad_() for m in make_maps(layout, batch=batch)]
    losses = sigmoid_focal_loss_of_anchors(maps, make_targets(batch), K)
    assert losses.shape == make_targets(batch).shape


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
def test_infinite_logits(backend, layout, gamma):
    """Loss and gradient are finite and equal if those of the plain loss are."""
    maps, targets = make_maps(layout), make_targets()
    with torch.no_grad():
        for m in maps:
            m[0, :, :, 0] = torch.inf
            m[1, :, :, 0] = -torch.inf
    loss = fused(maps, targets, gamma=gamma)
    expected = plain(maps, targets, gamma=gamma)
    assert loss == expected == torch.inf  # some logits are wrong
    losses = sigmoid_focal_loss_of_anchors(maps, targets, K, gamma=gamma)
    per_anchor = elements(maps, targets, gamma=gamma).sum(1).view(targets.shape)
    torch.testing.assert_close(losses, per_anchor.detach())
    if backend == 'native':
        for a, b in zip(
            torch.autograd.grad(loss, maps),
            torch.autograd.grad(expected, maps),
            strict=True,
        ):
            assert a.isfinite().all()
            finite = b.isfinite()
            torch.testing.assert_close(a[finite], b[finite], rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize('value', [torch.nan, torch.inf, -torch.inf])
def test_logits_of_ignored_anchors_may_be_anything(backend, layout, value):
    maps, targets = make_maps(layout), torch.full_like(make_targets(), K)
    targets[0, :2] = -1  # the anchors of the first cell
    with torch.no_grad():
        maps[0][0, :, 0, 0] = value
    loss = fused(maps, targets)
    assert loss.isfinite()
    torch.testing.assert_close(loss, plain(maps, targets))
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, maps))


def test_nan_reaches_the_loss(backend, layout):
    maps, targets = make_maps(layout), torch.zeros_like(make_targets())
    with torch.no_grad():
        maps[0][1, 3, 2, 2] = torch.nan
    assert fused(maps, targets).isnan()
    losses = sigmoid_focal_loss_of_anchors(maps, targets, K)
    assert losses.isnan().sum() == 1


def test_several_threads(backend, layout):
    maps, targets = make_maps(layout), make_targets()
    expected = fused(maps, targets)
    gradients = torch.autograd.grad(expected, maps, retain_graph=True)
    failed = []

    def run():
        for _ in range(20):
            own = [m.detach().requires_grad_() for m in maps]
            loss = fused(own, targets)
            same = torch.equal(loss, expected) and all(
                torch.equal(a, b)
                for a, b in zip(torch.autograd.grad(loss, own), gradients, strict=True)
            )
            if not same:
                failed.append(loss)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


class Loss(nn.Module):
    def forward(self, *inputs):
        *maps, targets = inputs
        return fused(maps, targets)


@needs_operators
@pytest.mark.parametrize('compile_backend', ['eager', 'aot_eager'])
def test_compile(backend, layout, compile_backend):
    torch._dynamo.reset()
    compiled = torch.compile(Loss(), fullgraph=True, backend=compile_backend)
    assert_same(make_maps(layout), make_targets(), lambda m, t: compiled(*m, t))


@needs_operators
def test_compile_of_the_component_in_one_graph():
    torch._dynamo.reset()
    loss_cls = FocalLoss(alpha=[0.1, 0.2, 0.7])
    compiled = torch.compile(loss_cls, fullgraph=True, backend='aot_eager')
    logits = torch.randn(50, K, requires_grad=True)
    targets = torch.randint(0, K + 1, (50,))
    factor = torch.tensor(7.0)
    for loss in (compiled, loss_cls):
        value = loss(logits, targets, avg_factor=factor)
        (gradient,) = torch.autograd.grad(value, logits)
        if loss is compiled:
            expected = value, gradient
    torch.testing.assert_close((value, gradient), expected)


@needs_operators
def test_export_is_one_node(backend, layout):
    maps, targets = make_maps(layout), make_targets()
    program = torch.export.export(Loss(), (*maps, targets))
    names = [str(n.target) for n in program.graph.nodes if n.op == 'call_function']
    operators = [name for name in names if name.startswith('focal_retinanet')]
    assert operators == ['focal_retinanet.sigmoid_focal_loss_sum.default']
    module = program.module()
    assert_same(maps, targets, lambda m, t: module(*m, t))


@needs_operators
def test_jit_trace(backend, layout):
    maps, targets = make_maps(layout), make_targets()
    traced = torch.jit.trace(Loss(), (*[m.detach() for m in maps], targets))
    others = [(m.detach() + 1).requires_grad_() for m in maps]
    assert_same(others, targets, lambda m, t: traced(*m, t))


class WeightedLoss(nn.Module):
    def forward(self, *inputs):
        *maps, targets, weights = inputs
        return fused(maps, targets, weights=weights)


def _every_second(x):
    return x.repeat_interleave(2, dim=-1)[..., ::2]


#: Maps of the same values in other layouts, of which a traced program knows nothing.
RELAID = {
    'every second column': lambda maps: [_every_second(m) for m in maps],
    'transposed': lambda maps: [m.mT.contiguous().mT for m in maps],
    'one image, expanded': lambda maps: [m[:1].expand_as(m) for m in maps],
    'one level channels-last': lambda maps: [
        maps[0].to(memory_format=torch.channels_last),
        *maps[1:],
    ],
}


@needs_operators
@pytest.mark.parametrize('relaid', RELAID)
@pytest.mark.parametrize('way', ['torch.export', 'torch.jit.trace'])
def test_a_traced_program_takes_any_layout(backend, way, relaid):
    maps = [m.detach() for m in make_maps()]
    targets = make_targets()
    inputs = (*maps, targets, torch.rand(targets.shape))
    if way == 'torch.export':
        program = torch.export.export(WeightedLoss(), inputs).module()
    else:
        program = torch.jit.trace(WeightedLoss(), inputs)
    others = [m.detach().requires_grad_() for m in RELAID[relaid](maps)]
    targets, weights = targets.flip(0), torch.rand(targets.shape)
    strided = _every_second(targets), _every_second(weights)
    assert not (others[0].is_contiguous() or strided[0].is_contiguous())
    loss = program(*others, *strided)
    expected = (elements(others, targets) * weights.view(-1, 1)).sum() * 0.3
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    found = torch.autograd.grad(loss, others)
    for a, b in zip(found, torch.autograd.grad(expected, others), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=1e-7)


@needs_operators
def test_fake_tensors(backend, layout):
    with FakeTensorMode():
        maps, targets = make_maps_without_values(layout)
        loss = fused(maps, targets)
        loss.backward()
        losses = sigmoid_focal_loss_of_anchors(maps, targets, K)
    assert loss.shape == () and loss.dtype == torch.float32
    assert losses.shape == targets.shape
    for m in maps:
        assert m.grad.shape == m.shape and m.grad.stride() == m.stride()
    # Nothing fake is left behind.
    assert_same(make_maps(layout), make_targets())


def make_maps_without_values(layout):
    maps = [
        torch.empty(2, ANCHORS * K, h, w).to(memory_format=layout) for h, w in SIZES
    ]
    anchors = sum(h * w * ANCHORS for h, w in SIZES)
    targets = torch.zeros(2, anchors, dtype=torch.int64)
    return [m.requires_grad_() for m in maps], targets


def test_meta_tensors(layout):
    with torch.device('meta'):
        maps, targets = make_maps_without_values(layout)
        loss = fused(maps, targets)
    loss.backward()
    assert loss.device.type == 'meta'
    assert all(m.grad.shape == m.shape for m in maps)


def test_functional_gradient(backend, layout):
    maps, targets = [m.detach() for m in make_maps(layout)], make_targets()
    found = torch.func.grad(lambda maps: fused(maps, targets))(maps)
    expected = torch.func.grad(lambda maps: plain(maps, targets))(maps)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=1e-7)


@needs_operators
@pytest.mark.parametrize('weights', [None, 'anchors'])
def test_operator_passes_opcheck(backend, layout, weights):
    """Fake results fit the real ones, there are no aliases, and autograd is registered."""
    maps, targets = make_maps(layout), make_targets()
    torch.library.opcheck(
        torch.ops.focal_retinanet.sigmoid_focal_loss_sum.default,
        (
            maps,
            targets,
            None if weights is None else torch.rand(targets.shape),
            torch.full((K,), 0.25),
            torch.full((K,), 0.75),
            torch.tensor(0.5),
            *(2.0, 0.0, -1),
        ),
    )


def test_device_path_never_reads_from_the_device(monkeypatch, no_reads):
    chunks = focal_loss_chunked._device_chunks
    monkeypatch.setattr(focal_loss_native, 'is_available', lambda levels: False)
    monkeypatch.setattr(focal_loss_chunked, '_cpu_chunks', chunks)
    monkeypatch.setattr(focal_loss_backends, 'on_host', lambda scale: scale)
    maps, targets = make_maps(), make_targets()

    levels, terms = _prepare(
        [m.detach() for m in maps],
        targets,
        K,
        weights=None,
        gamma=2.0,
        alpha=0.25,
        label_smoothing=0.0,
        ignore_index=-1,
    )
    with no_reads:
        focal_loss_backends.compute_both(levels, terms, torch.tensor(0.3))
        focal_loss_backends.compute_anchor_losses(levels, terms)
