"""A small network, its fast twin, and ways of using either that the tests share."""

import copy

import pytest
import torch
from mmengine.config import Config
from torch import nn
from torch.nn import functional

from focal_retinanet.acceleration import folding, winograd
from focal_retinanet.acceleration.accelerate import accelerate

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


class Use:
    """Uses of a model that return all resulting tensors."""

    @staticmethod
    def loss(outputs):
        return sum(output.square().mean() for output in outputs if output.numel())

    @staticmethod
    def gradients(model):
        return [p.grad.clone() for p in model.parameters()]

    @classmethod
    def step(cls, model, images):
        """Do a training step."""
        model.zero_grad()
        images = images.clone().requires_grad_()
        outputs = model(images)
        cls.loss(outputs).backward()
        return [*outputs, *cls.gradients(model), images.grad]

    @staticmethod
    @torch.no_grad()
    def detect(model, images):
        return list(model(images))


@pytest.fixture
def use():
    return Use


@pytest.fixture(params=PATHS)
def path(request):
    if not winograd.is_available():
        pytest.skip('needs a C++ compiler')
    return request.param


@pytest.fixture
def enabled(path):
    """Fast paths that the settings of ``path`` enable."""
    return {
        'winograd': {'winograd'},
        'folded': {'folded'},
        'channels-last': set(),
        'all': {'winograd', 'folded'},
    }[path]


@pytest.fixture
def twins(path, randomize_batch_norms):
    """The plain network and its fast twin."""
    torch.manual_seed(0)
    plain = randomize_batch_norms(_Network()).eval()
    fast = copy.deepcopy(plain)
    accelerate(fast, Config(PATHS[path]), 'silent', 'cpu')
    return plain, fast


@pytest.fixture
def make_images():
    def make(batch=2):
        shape = (batch, 16, 32, 36)
        generator = torch.Generator().manual_seed(1)
        return torch.randn(shape, dtype=torch.float32, generator=generator)

    return make


@pytest.fixture(autouse=True)
def no_working_memory(monkeypatch):
    monkeypatch.setattr(winograd._local, 'memory', None, raising=False)


@pytest.fixture
def taken(monkeypatch):
    """The fast paths that were taken."""
    names = set()
    convolve, pass_on = winograd._convolve, folding.pass_on
    monkeypatch.setattr(
        winograd, '_convolve', lambda *args: names.add('winograd') or convolve(*args)
    )
    monkeypatch.setattr(
        folding, 'pass_on', lambda *args: names.add('folded') or pass_on(*args)
    )
    return names


@pytest.fixture
def assert_close():
    """Compares tensors with those of the plain network.

    Errors in fp32 stay below 2e-5 of the largest value after three layers. One layer
    has errors of about 1e-6 (see the tests of ``acceleration/winograd``), and a
    gradient passes three layers twice.
    """

    def check(actual, expected, tolerance=2e-5):
        assert len(actual) == len(expected)
        for ours, reference in zip(actual, expected, strict=True):
            assert ours.dtype == reference.dtype and ours.shape == reference.shape
            assert ours.device == reference.device
            ours, reference = ours.detach().double(), reference.detach().double()
            assert reference.isfinite().all()
            error = (ours - reference).abs().max()
            assert error <= tolerance * reference.abs().max().clamp(min=1e-30)

    return check
