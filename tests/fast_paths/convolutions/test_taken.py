"""Ways of calling a model in which fast convolutions are taken.

Each way is a function that uses a model and returns all resulting tensors. It runs on
a plain model and on its fast twin.
"""

import copy
import pickle
import threading
from contextlib import contextmanager

import pytest
import torch
from torch.utils import checkpoint

from focal_retinanet.ops.fast_paths import step_aside


def _noise_like(tensor, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tensor.shape, dtype=torch.float32, generator=generator) * 0.1


def _inference_mode_then_training(use, model, images):
    with torch.inference_mode():
        detections = [x.clone() for x in model(images)]
    return [*detections, *use.step(model, images), *use.step(model, images)]


def _averaged_weights_through_data(use, model, images):
    """Swap weights as mmengine's EMAHook does, so that no version counter changes."""
    results = [*use.detect(model, images), *use.step(model, images)]
    state = [
        *model.parameters(),
        *(b for b in model.buffers() if b.is_floating_point()),
    ]
    kept = [x.data.clone() for x in state]
    for seed, x in enumerate(state):
        x.data.copy_(kept[seed] + _noise_like(x, seed).abs())
    results += use.detect(model, images)
    for x, old in zip(state, kept, strict=True):
        x.data.copy_(old)
    return [*results, *use.step(model, images), *use.detect(model, images)]


def _scaled_through_data(use, model, images):
    results = use.detect(model, images)
    for p in model.parameters():
        p.data.mul_(0.5)
    return [*results, *use.detect(model, images), *use.step(model, images)]


def _optimizer_steps(use, model, images):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    results = []
    for _ in range(3):
        results += use.step(model, images)
        optimizer.step()
    return results + use.detect(model, images)


def _copied(use, model, images):
    first = use.step(model, images)
    other = copy.deepcopy(model)
    for p in other.parameters():
        p.data.mul_(2)
    return [*first, *use.detect(other, images), *use.detect(model, images)]


def _pickled(use, model, images):
    return use.step(pickle.loads(pickle.dumps(model)), images)


def _loaded_state(use, model, images):
    first = use.detect(model, images)
    state = {
        name: x + _noise_like(x, 0).abs() if x.is_floating_point() else x
        for name, x in model.state_dict().items()
    }
    model.load_state_dict(state)
    return [*first, *use.detect(model, images), *use.step(model, images)]


def _accumulated(use, model, images):
    model.zero_grad()
    for half in images.split(1):
        use.loss(model(half)).backward()
    return [*use.gradients(model), *use.detect(model, images)]


def _used_twice(use, model, images):
    model.zero_grad()
    first, second = model(images), model(images.flip(3) * 2)
    (use.loss(first) + use.loss(second)).backward()
    return [*first, *second, *use.gradients(model)]


def _backward_twice(use, model, images):
    model.zero_grad()
    loss = use.loss(model(images))
    loss.backward(retain_graph=True)
    loss.backward()
    return use.gradients(model)


def _gradient_of_a_gradient(use, model, images):
    model.zero_grad()
    images = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        use.loss(model(images)), images, create_graph=True
    )
    (gradient.square().sum() * 100).backward()
    return [gradient, *(p.grad for p in model.parameters() if p.grad is not None)]


def _checkpointed(use, model, images, use_reentrant):
    model.zero_grad()
    images = images.clone().requires_grad_()
    outputs = checkpoint.checkpoint(model, images, use_reentrant=use_reentrant)
    use.loss(outputs).backward()
    return [*outputs, *use.gradients(model), images.grad]


def _part_is_frozen(use, model, images):
    results = []
    for frozen in ('weight', 'bias', 'backbone'):
        for name, p in model.named_parameters():
            p.requires_grad_(frozen not in name)
        model.zero_grad()
        outputs = model(images)
        use.loss(outputs).backward()
        results += [*outputs, *(p.grad for p in model.parameters() if p.requires_grad)]
    return results


def _training_mode_between(use, model, images):
    results = use.step(model, images)
    model.train()
    results += use.step(model, images)[:2]  # the bias before a norm has no gradient
    model.eval()
    return results + use.step(model, images) + [x.float() for x in model.buffers()]


def _double_is_the_default(use, model, images):
    with _default_dtype(torch.float64):
        return [*use.detect(model, images), *use.step(model, images)]


def _meta_is_the_default(use, model, images):
    torch.set_default_device('meta')
    try:
        return [*use.detect(model, images), *use.step(model, images)]
    finally:
        torch.set_default_device(None)


def _threads(use, model, images):
    results = [None] * 4

    def work(index):
        for _ in range(3):
            inputs = (images * (index + 1)).requires_grad_()
            outputs = model(inputs)
            gradients = torch.autograd.grad(use.loss(outputs), inputs)
            results[index] = [*outputs, *gradients]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [x for result in results for x in result]


def _functional_call(use, model, images):
    state = {name: x * 2 for name, x in model.named_parameters()}
    with torch.no_grad():
        return list(torch.func.functional_call(model, state, (images,)))


def _nchw_and_nhwc_inputs(use, model, images):
    return [
        *use.step(model, images.contiguous()),
        *use.step(model, images.to(memory_format=torch.channels_last)),
        *use.step(model, images.transpose(2, 3)),
        *use.step(model, images[:, :, 1:, :-1]),
    ]


TAKEN = {
    'grad': lambda use, *args: use.step(*args),
    'no_grad': lambda use, *args: use.detect(*args),
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
def test_fast_and_the_same(
    way, path, twins, enabled, taken, use, make_images, assert_close
):
    plain, fast = twins
    expected = TAKEN[way](use, plain, make_images())
    assert not taken
    assert_close(TAKEN[way](use, fast, make_images()), expected)
    assert taken == enabled
    assert not step_aside._said
    if path not in ('channels-last', 'all'):
        layouts = [
            [x.stride() for x in use.detect(model.float(), make_images())]
            for model in twins
        ]
        assert layouts[0] == layouts[1]


@contextmanager
def _default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
