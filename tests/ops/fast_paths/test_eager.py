"""A kernel serves plain tensors in calls that nothing records, and no others."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from focal_retinanet.ops.fast_paths.eager import is_eager
from focal_retinanet.ops.focal_loss import backends
from focal_retinanet.ops.focal_loss.fused import sigmoid_focal_loss_sum

X = torch.ones(2, 3)


class Watcher(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **kwargs or {})


class FunctionWatcher(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **kwargs or {})


class Subclass(torch.Tensor):
    pass


@pytest.mark.parametrize(
    'context',
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.device('meta'),
        lambda: torch.autocast('cpu', torch.bfloat16),
    ],
)
def test_plain_calls(context):
    with context():
        assert is_eager(X, None, torch.nn.Parameter(X), X.t())


def test_tensors_that_are_not_plain():
    assert not is_eager(X, X.as_subclass(Subclass))
    assert not is_eager(X.to_sparse())
    assert not is_eager(torch.view_as_complex(torch.ones(3, 2)).conj().imag)
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(X)
    assert not is_eager(fake)


def test_calls_that_are_recorded():
    answers = []

    def ask(x):
        answers.append(is_eager(x))
        return x + 1

    with Watcher():
        ask(X)
    with FunctionWatcher():
        ask(X)
        with torch.device('cpu'):
            ask(X)
    with torch.device('cpu'), FunctionWatcher():
        ask(X)
    torch.jit.trace(ask, X, check_trace=False)
    torch.func.vmap(ask)(X)
    torch.func.grad(lambda x: ask(x).sum())(X)
    assert answers == [False] * 7
    ask(X)
    assert answers[-1]


def test_function_modes_see_the_fused_loss(monkeypatch):
    monkeypatch.setattr(backends, 'compute_loss', None)
    levels = [torch.randn(1, 6, 4, 4)]
    targets = torch.randint(0, 3, (1, 32))
    with FunctionWatcher() as watcher, torch.no_grad():
        loss = sigmoid_focal_loss_sum(levels, targets, 3)
    assert any('focal' in str(func) or 'sigmoid' in str(func) for func in watcher.seen)
    monkeypatch.undo()
    torch.testing.assert_close(sigmoid_focal_loss_sum(levels, targets, 3), loss)


def test_compiled():
    @torch.compile(fullgraph=True, backend='eager')
    def double_where_eager(x):
        return 2 * x if is_eager(x) else 3 * x

    assert torch.equal(double_where_eager(X), 3 * X)
