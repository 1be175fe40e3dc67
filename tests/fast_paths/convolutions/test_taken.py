"""Fast convolutions give what the plain ones give, whichever way they are called.

Each way is a function that uses a model and returns all tensors that came out. It is
run on a plain model and on its fast twin.
"""

import copy
import io
import logging
import pickle
import threading
import warnings
from contextlib import contextmanager

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional
from torch.utils import checkpoint

from focal_retinanet.acceleration import folding, winograd
from focal_retinanet.acceleration.accelerate import accelerate
from focal_retinanet.ops.fast_paths import step_aside

pytestmark = pytest.mark.skipif(
    not winograd.is_available(), reason='needs a C++ compiler'
)

PATHS = {
    'winograd': dict(winograd=True),
    'folded': dict(fold_batch_norm=True),
    'channels-last': dict(channels_last=True),
    'all': dict(winograd=True, fold_batch_norm=True, channels_last=True),
}


class _Network(nn.Module):
    """A frozen batch norm behind either kind of convolution, and a shared subnet."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(16, 24, 3, padding=1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(inplace=True),
            nn.Conv2d(24, 20, 1),
            nn.BatchNorm2d(20),
        )
        self.subnet = nn.Conv2d(20, 16, 3, padding=1)

    def forward(self, images):
        features = self.backbone(images)
        return self.subnet(features), self.subnet(functional.max_pool2d(features, 2))


@pytest.fixture(autouse=True)
def as_at_first(monkeypatch):
    """Nothing was said, no working memory is there."""
    monkeypatch.setattr(step_aside, '_said', set())
    monkeypatch.setattr(winograd._local, 'memory', None, raising=False)


@pytest.fixture
def taken(monkeypatch):
    """The fast paths that were taken."""
    names = set()
    call, done = winograd._convolve, folding.pass_on
    monkeypatch.setattr(
        winograd, '_convolve', lambda *args: names.add('winograd') or call(*args)
    )
    monkeypatch.setattr(
        folding, 'pass_on', lambda *args: names.add('folded') or done(*args)
    )
    return names


def _twins(path):
    torch.manual_seed(0)
    plain = _Network()
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    plain.eval()
    fast = copy.deepcopy(plain)
    accelerate(fast, Config(PATHS[path]), 'silent')
    return plain, fast


def _images(batch=2):
    return torch.randn(
        batch,
        16,
        32,
        36,
        dtype=torch.float32,
        generator=torch.Generator().manual_seed(1),
    )


def _loss(outputs):
    return sum(output.square().mean() for output in outputs if output.numel())


def _gradients(model):
    return [p.grad.clone() for p in model.parameters()]


def _step(model, images):
    """A training step."""
    model.zero_grad()
    images = images.clone().requires_grad_()
    outputs = model(images)
    _loss(outputs).backward()
    return [*outputs, *_gradients(model), images.grad]


@torch.no_grad()
def _detect(model, images):
    return list(model(images))


def _noise_like(tensor, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tensor.shape, dtype=torch.float32, generator=generator) * 0.1


# --- Ways in which the fast paths are taken.


def _inference_mode_then_training(model, images):
    with torch.inference_mode():
        detections = [x.clone() for x in model(images)]
    return [*detections, *_step(model, images), *_step(model, images)]


def _averaged_weights_through_data(model, images):
    """As mmengine's EMAHook swaps them: no version counter moves."""
    results = [*_detect(model, images), *_step(model, images)]
    state = [
        *model.parameters(),
        *(b for b in model.buffers() if b.is_floating_point()),
    ]
    kept = [x.data.clone() for x in state]
    for seed, x in enumerate(state):
        x.data.copy_(kept[seed] + _noise_like(x, seed).abs())
    results += _detect(model, images)
    for x, old in zip(state, kept, strict=True):
        x.data.copy_(old)
    return [*results, *_step(model, images), *_detect(model, images)]


def _scaled_through_data(model, images):
    results = _detect(model, images)
    for p in model.parameters():
        p.data.mul_(0.5)
    return [*results, *_detect(model, images), *_step(model, images)]


def _optimizer_steps(model, images):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    results = []
    for _ in range(3):
        results += _step(model, images)
        optimizer.step()
    return results + _detect(model, images)


def _copied(model, images):
    first = _step(model, images)
    other = copy.deepcopy(model)
    for p in other.parameters():
        p.data.mul_(2)
    return [*first, *_detect(other, images), *_detect(model, images)]


def _pickled(model, images):
    return _step(pickle.loads(pickle.dumps(model)), images)


def _loaded_state(model, images):
    first = _detect(model, images)
    state = {
        name: x + _noise_like(x, 0).abs() if x.is_floating_point() else x
        for name, x in model.state_dict().items()
    }
    model.load_state_dict(state)
    return [*first, *_detect(model, images), *_step(model, images)]


def _accumulated(model, images):
    model.zero_grad()
    for half in images.split(1):
        _loss(model(half)).backward()
    return [*_gradients(model), *_detect(model, images)]


def _used_twice(model, images):
    model.zero_grad()
    first, second = model(images), model(images.flip(3) * 2)
    (_loss(first) + _loss(second)).backward()
    return [*first, *second, *_gradients(model)]


def _backward_twice(model, images):
    model.zero_grad()
    loss = _loss(model(images))
    loss.backward(retain_graph=True)
    loss.backward()
    return _gradients(model)


def _gradient_of_a_gradient(model, images):
    model.zero_grad()
    images = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(_loss(model(images)), images, create_graph=True)
    (gradient.square().sum() * 100).backward()
    return [gradient, *(p.grad for p in model.parameters() if p.grad is not None)]


def _checkpointed(model, images, use_reentrant):
    model.zero_grad()
    images = images.clone().requires_grad_()
    outputs = checkpoint.checkpoint(model, images, use_reentrant=use_reentrant)
    _loss(outputs).backward()
    return [*outputs, *_gradients(model), images.grad]


def _part_is_frozen(model, images):
    results = []
    for frozen in ('weight', 'bias', 'backbone'):
        for name, p in model.named_parameters():
            p.requires_grad_(frozen not in name)
        model.zero_grad()
        outputs = model(images)
        _loss(outputs).backward()
        results += [*outputs, *(p.grad for p in model.parameters() if p.requires_grad)]
    return results


def _training_mode_between(model, images):
    results = _step(model, images)
    model.train()
    results += _step(model, images)[:2]  # the bias before a norm has no gradient
    model.eval()
    return results + _step(model, images) + [x.float() for x in model.buffers()]


def _double_is_the_default(model, images):
    with _default_dtype(torch.float64):
        return [*_detect(model, images), *_step(model, images)]


def _meta_is_the_default(model, images):
    torch.set_default_device('meta')
    try:
        return [*_detect(model, images), *_step(model, images)]
    finally:
        torch.set_default_device(None)


def _threads(model, images):
    results = [None] * 4

    def work(index):
        for _ in range(3):
            inputs = (images * (index + 1)).requires_grad_()
            outputs = model(inputs)
            gradients = torch.autograd.grad(_loss(outputs), inputs)
            results[index] = [*outputs, *gradients]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [x for result in results for x in result]


def _functional_call(model, images):
    state = {name: x * 2 for name, x in model.named_parameters()}
    with torch.no_grad():
        return list(torch.func.functional_call(model, state, (images,)))


def _nchw_and_nhwc_inputs(model, images):
    return [
        *_step(model, images.contiguous()),
        *_step(model, images.to(memory_format=torch.channels_last)),
        *_step(model, images.transpose(2, 3)),
        *_step(model, images[:, :, 1:, :-1]),
    ]


TAKEN = {
    'grad': _step,
    'no_grad': _detect,
    'inference mode before training': _inference_mode_then_training,
    'averaged weights through .data': _averaged_weights_through_data,
    '.data.mul_': _scaled_through_data,
    'optimizer steps': _optimizer_steps,
    'deepcopy': _copied,
    'pickle': _pickled,
    'load_state_dict': _loaded_state,
    'accumulation': _accumulated,
    'used twice': _used_twice,
    'backward twice': _backward_twice,
    'double backward': _gradient_of_a_gradient,
    'checkpoint': lambda *args: _checkpointed(*args, use_reentrant=False),
    'reentrant checkpoint': lambda *args: _checkpointed(*args, use_reentrant=True),
    'frozen parts': _part_is_frozen,
    'training mode between': _training_mode_between,
    'set_default_dtype(float64)': _double_is_the_default,
    "set_default_device('meta')": _meta_is_the_default,
    'threads': _threads,
    'functional_call': _functional_call,
    'memory formats': _nchw_and_nhwc_inputs,
}


@pytest.mark.parametrize('way', TAKEN)
@pytest.mark.parametrize('path', PATHS)
def test_fast_and_the_same(path, way, taken):
    plain, fast = _twins(path)
    expected = TAKEN[way](plain, _images())
    assert not taken
    _assert_close(TAKEN[way](fast, _images()), expected)
    assert (
        taken
        == {
            'winograd': {'winograd'},
            'folded': {'folded'},
            'channels-last': set(),
            'all': {'winograd', 'folded'},
        }[path]
    )
    assert not step_aside._said
    assert _layouts(fast) == _layouts(plain) or path in ('channels-last', 'all')


# --- Ways in which a fast path steps aside.


def _autocast(model, images):
    with torch.autocast('cpu', torch.bfloat16):
        return _step(model, images)[:-1]  # less the image's, where ReLUs flip


def _double(model, images):
    return _step(model.double(), images.double())


def _bfloat16(model, images):
    return _step(model.bfloat16(), images.bfloat16())


def _gradient_transform(model, images):
    def loss(images):
        return _loss(model(images))

    return [torch.func.grad(loss)(images)]


def _vmap(model, images):
    with torch.no_grad():
        return list(torch.func.vmap(lambda image: model(image[None]))(images))


def _batched_gradients(model, images):
    """The forward is a plain call, the backward is not."""
    images = images.requires_grad_()
    output = model(images)[0]
    directions = torch.stack([torch.ones_like(output), torch.full_like(output, 2.0)])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # it tells of operators that are slow
        return list(
            torch.autograd.grad(output, images, directions, is_grads_batched=True)
        )


def _forward_mode(model, images):
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(images, images.flip(3))
        outputs = model(dual)
        return [torch.autograd.forward_ad.unpack_dual(x).tangent for x in outputs]


def _jit_trace(model, images):
    traced = torch.jit.trace(model, images, check_trace=False)
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    return list(torch.jit.load(file)(images.flip(3)))


def _fx_trace(model, images):
    return _step(torch.fx.symbolic_trace(model), images)


def _export(model, images):
    return list(torch.export.export(model, (images,)).module()(images.flip(3)))


def _compile(model, images):
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    outputs = compiled(images)
    return [*outputs, *torch.autograd.grad(_loss(outputs), list(model.parameters()))]


def _fake(model, images):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        outputs = model(mode.from_tensor(images))
        assert all(type(x) is not torch.Tensor for x in outputs)
    return [torch.empty(x.shape, dtype=x.dtype).zero_() for x in outputs]


def _meta(model, images):
    outputs = model.to('meta')(images.to('meta'))
    assert all(x.is_meta for x in outputs)
    return [torch.empty(x.shape, dtype=x.dtype).zero_() for x in outputs]


def _make_fx(model, images):
    from torch.fx.experimental.proxy_tensor import make_fx

    with torch.no_grad():
        return list(make_fx(lambda x: model(x))(images)(images.flip(3)))


def _subclass(model, images):
    class Special(torch.Tensor):
        pass

    outputs = model(images.as_subclass(Special))
    assert all(type(x) is Special for x in outputs)
    return [x.as_subclass(torch.Tensor) for x in outputs]


# What is still taken, of {'winograd', 'folded'}.
ASIDE = {
    'autocast': (_autocast, {'folded'}),
    'fp64': (_double, {'folded'}),
    'bf16': (_bfloat16, set()),
    'torch.func.grad': (_gradient_transform, set()),
    'vmap': (_vmap, set()),
    'batched gradients': (_batched_gradients, {'winograd', 'folded'}),
    'forward-mode': (_forward_mode, set()),
    'torch.jit.trace': (_jit_trace, set()),
    'torch.fx': (_fx_trace, {'winograd'}),
    'torch.export': (_export, set()),
    'torch.compile': (_compile, set()),
    'FakeTensorMode': (_fake, set()),
    'meta': (_meta, {'folded'}),
    'make_fx': (_make_fx, set()),
    'subclass': (_subclass, set()),
}
_TOLERANCES = {'autocast': 0.03, 'bf16': 0.03, 'fp64': 1e-13}


@pytest.mark.parametrize('way', ASIDE)
@pytest.mark.parametrize('path', PATHS)
def test_aside_and_the_same(path, way, taken, caplog):
    call, still_taken = ASIDE[way]
    plain, fast = _twins(path)
    expected = call(plain, _images())
    with caplog.at_level(logging.WARNING, logger='focal_retinanet'):
        actual = call(fast, _images())
    _assert_close(actual, expected, _TOLERANCES.get(way, 2e-5))
    of_path = {'winograd', 'folded'} if path == 'all' else {path} - {'channels-last'}
    assert taken == still_taken & of_path
    stepped_aside = of_path - still_taken
    if way == 'batched gradients':  # Winograd's backward alone
        stepped_aside = set()
    said = [r.getMessage() for r in caplog.records if r.name == 'focal_retinanet']
    assert len(said) == len(set(said)) <= len(stepped_aside), said
    if way not in ('torch.compile', 'torch.export') or step_aside._is_new_compiler:
        assert len(said) == len(stepped_aside)


@pytest.mark.parametrize('path', PATHS)
def test_onnx_export(path):
    """Its exporter traces the model; the file itself needs another package."""
    _, fast = _twins(path)
    graph = torch.jit._get_trace_graph(fast, (_images(),))[0]
    convolutions = [n for n in graph.nodes() if n.kind() == 'aten::_convolution']
    assert len(convolutions) == 4


# --- What is not finite, and what is not there.


@pytest.mark.parametrize('value', [float('nan'), float('inf'), float('-inf'), 1e38])
@pytest.mark.parametrize('path', PATHS)
def test_values_that_are_not_finite(path, value):
    """They reach the same outputs and the same gradients."""
    images = _images()
    images[1, 3, 13, 17] = value
    results = []
    for model in _twins(path):
        results.append([*_detect(model, images), *_step(model, images)])
    for fast, plain in zip(results[1], results[0], strict=True):
        assert torch.equal(fast.isfinite(), plain.isfinite())
    assert any(not x.isfinite().all() for x in results[0])


@pytest.mark.parametrize('path', PATHS)
def test_weights_that_are_not_finite(path):
    results = []
    for model in _twins(path):
        model.backbone[0].weight.data[3, 2, 1, 1] = float('inf')
        results.append([*_detect(model, _images()), *_step(model, _images())])
    for fast, plain in zip(results[1], results[0], strict=True):
        assert torch.equal(fast.isfinite(), plain.isfinite())


@pytest.mark.parametrize('path', PATHS)
def test_empty_batch(path):
    results = []
    for model in _twins(path):
        images = _images(0).requires_grad_()
        outputs = model(images)
        gradients = torch.autograd.grad(
            sum(x.sum() for x in outputs), [*model.parameters(), images]
        )
        results.append([*outputs, *gradients])
    assert all(map(torch.equal, results[1], results[0]))


# --- Errors that are PyTorch's.

CHANGES = {
    'images': lambda model, images: images.mul_(2),
    'weight': lambda model, images: model.backbone[0].weight.mul_(2),
    'weight of 1x1': lambda model, images: model.backbone[3].weight.mul_(2),
    'weight of the subnet': lambda model, images: model.subnet.weight.mul_(2),
    'weight of the norm': lambda model, images: model.backbone[1].weight.mul_(2),
    'running mean': lambda model, images: model.backbone[1].running_mean.mul_(2),
    'running variance': lambda model, images: model.backbone[4].running_var.mul_(2),
    'bias': lambda model, images: model.subnet.bias.mul_(2),
    'bias of the norm': lambda model, images: model.backbone[1].bias.mul_(2),
}


@pytest.mark.parametrize('frozen', ['nothing', 'backbone', 'norm'])
@pytest.mark.parametrize('change', CHANGES)
@pytest.mark.parametrize('path', PATHS)
def test_changes_in_place_before_backward(path, change, frozen, taken):
    """They are an error exactly where they are one for PyTorch."""
    errors = []
    for model in _twins(path):
        if frozen == 'backbone':
            model.backbone.requires_grad_(False)
        elif frozen == 'norm':
            model.backbone[1].requires_grad_(False)
        images = _images().requires_grad_()
        inputs = images.clone()
        outputs = model(inputs)
        with torch.no_grad():
            CHANGES[change](model, inputs)
        try:
            _loss(outputs).backward()
            errors.append(None)
        except RuntimeError as error:
            errors.append('modified by an inplace operation' in str(error))
    assert errors[1] == errors[0]
    if change in ('images', 'weight', 'weight of 1x1', 'running variance'):
        assert errors[0]
    assert taken or path == 'channels-last'


@pytest.mark.parametrize('path', PATHS)
def test_wrong_shapes_are_refused(path):
    for images in (torch.randn(2, 17, 32, 32), torch.randn(2, 16, 32), torch.randn(3)):
        messages = []
        for model in _twins(path):
            with pytest.raises(RuntimeError) as error:
                model(images)
            messages.append(str(error.value))
        assert messages[1] == messages[0]


# --- A run of the framework.


@pytest.mark.parametrize('path', PATHS)
def test_averaged_weights_in_a_run(path, tmp_path, taken):
    """EMAHook swaps weights around each validation; training goes on unharmed."""
    results = []
    for name, network in zip(('plain', 'fast'), _twins(path), strict=True):
        model = _Trained(network)
        data = [dict(images=_images(2) * scale) for scale in (1.0, 0.5, 2.0)]
        runner = Runner(
            model=model,
            work_dir=str(tmp_path / name),
            train_dataloader=_loader(data),
            train_cfg=dict(by_epoch=True, max_epochs=3, val_interval=1),
            optim_wrapper=dict(
                optimizer=dict(type='SGD', lr=0.1), accumulative_counts=2
            ),
            val_dataloader=_loader(data[:1]),
            val_cfg=dict(),
            val_evaluator=Evaluator(_Nothing()),
            custom_hooks=[dict(type='EMAHook', momentum=0.3)],
            experiment_name=f'{path}-{name}',
            log_level='ERROR',
        )
        runner.train()
        results.append([*model.losses, *model.detections, *network.parameters()])
    assert len(results[0]) > 9 + 3
    _assert_close(results[1], results[0])
    assert taken or path == 'channels-last'


class _Trained(BaseModel):
    def __init__(self, network):
        super().__init__()
        self.network = network
        self.losses, self.detections = [], []

    def train(self, mode=True):
        super().train(mode)
        self.network.eval()  # frozen batch norms
        return self

    def forward(self, images, mode='tensor'):
        outputs = self.network(images)
        if mode == 'loss':
            self.losses.append(_loss(outputs).detach())
            return dict(loss=_loss(outputs))
        self.detections += [x.detach() for x in outputs]
        return [BaseDataElement()]


class _Nothing(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return {}


def _loader(data):
    return torch.utils.data.DataLoader(data, collate_fn=lambda items: items[0])


@contextmanager
def _default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _layouts(model):
    return [x.stride() for x in _detect(model.float(), _images())]


def _assert_close(actual, expected, tolerance=2e-5):
    """Errors in fp32 stay below 2e-5 of the largest value after three layers.

    A layer's are some 1e-6 (see the tests of ``ops/winograd``), and a gradient goes
    through three of them twice.
    """
    assert len(actual) == len(expected)
    for ours, reference in zip(actual, expected, strict=True):
        assert ours.dtype == reference.dtype and ours.shape == reference.shape
        assert ours.device == reference.device
        ours, reference = ours.detach().double(), reference.detach().double()
        assert reference.isfinite().all()
        error = (ours - reference).abs().max()
        assert error <= tolerance * reference.abs().max().clamp(min=1e-30)
