"""Ways of calling a model in which a fast path steps aside.

Each way is a function that uses a model and returns all resulting tensors. It runs on
a plain model and on its fast twin.
"""

import io
import logging
import warnings

import pytest
import torch
from torch._subclasses import FakeTensorMode

from focal_retinanet.ops.fast_paths import step_aside


def _autocast(use, model, images):
    with torch.autocast('cpu', torch.bfloat16):
        return use.step(model, images)[
            :-1
        ]  # not the images' gradient, where ReLUs flip


def _double(use, model, images):
    return use.step(model.double(), images.double())


def _bfloat16(use, model, images):
    return use.step(model.bfloat16(), images.bfloat16())


def _gradient_transform(use, model, images):
    def loss(images):
        return use.loss(model(images))

    return [torch.func.grad(loss)(images)]


def _vmap(use, model, images):
    with torch.no_grad():
        return list(torch.func.vmap(lambda image: model(image[None]))(images))


def _batched_gradients(use, model, images):
    """Batch the gradients, so that only the forward is a plain call."""
    images = images.requires_grad_()
    output = model(images)[0]
    directions = torch.stack([torch.ones_like(output), torch.full_like(output, 2.0)])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about slow operators
        return list(
            torch.autograd.grad(output, images, directions, is_grads_batched=True)
        )


def _forward_mode(use, model, images):
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(images, images.flip(3))
        outputs = model(dual)
        return [torch.autograd.forward_ad.unpack_dual(x).tangent for x in outputs]


def _jit_trace(use, model, images):
    traced = torch.jit.trace(model, images, check_trace=False)
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    return list(torch.jit.load(file)(images.flip(3)))


def _fx_trace(use, model, images):
    return use.step(torch.fx.symbolic_trace(model), images)


def _export(use, model, images):
    return list(torch.export.export(model, (images,)).module()(images.flip(3)))


def _compile(use, model, images):
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    outputs = compiled(images)
    return [*outputs, *torch.autograd.grad(use.loss(outputs), list(model.parameters()))]


def _fake(use, model, images):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        outputs = model(mode.from_tensor(images))
        assert all(type(x) is not torch.Tensor for x in outputs)
    return [torch.empty(x.shape, dtype=x.dtype).zero_() for x in outputs]


def _meta(use, model, images):
    outputs = model.to('meta')(images.to('meta'))
    assert all(x.is_meta for x in outputs)
    return [torch.empty(x.shape, dtype=x.dtype).zero_() for x in outputs]


def _make_fx(use, model, images):
    from torch.fx.experimental.proxy_tensor import make_fx

    with torch.no_grad():
        return list(make_fx(lambda x: model(x))(images)(images.flip(3)))


def _subclass(use, model, images):
    class Special(torch.Tensor):
        pass

    outputs = model(images.as_subclass(Special))
    assert all(type(x) is Special for x in outputs)
    return [x.as_subclass(torch.Tensor) for x in outputs]


# Each way with the fast paths that it still takes.
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
def test_aside_and_the_same(
    way, twins, enabled, taken, use, make_images, assert_close, caplog
):
    call, still_taken = ASIDE[way]
    plain, fast = twins
    expected = call(use, plain, make_images())
    with caplog.at_level(logging.WARNING, logger='focal_retinanet'):
        actual = call(use, fast, make_images())
    assert_close(actual, expected, _TOLERANCES.get(way, 2e-5))
    assert taken == still_taken & enabled
    stepped_aside = enabled - still_taken
    said = [r.getMessage() for r in caplog.records if r.name == 'focal_retinanet']
    assert len(said) == len(set(said)) <= len(stepped_aside), said
    if way not in ('torch.compile', 'torch.export') or step_aside._is_new_compiler:
        assert len(said) == len(stepped_aside)


def test_onnx_export(twins, make_images):
    """The exporter traces the model. Writing the file needs another package."""
    _, fast = twins
    graph = torch.jit._get_trace_graph(fast, (make_images(),))[0]
    convolutions = [n for n in graph.nodes() if n.kind() == 'aten::_convolution']
    assert len(convolutions) == 4
