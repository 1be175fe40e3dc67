"""What the tests of convolutions share."""

import pytest

from focal_retinanet.acceleration import folding, winograd


@pytest.fixture
def kernel_calls(monkeypatch):
    """Names of the Winograd kernels that ran. Maps of any size are worth it."""
    monkeypatch.setattr(winograd, '_MIN_TILES', 0)
    names = []
    call = winograd._call
    monkeypatch.setattr(
        winograd, '_call', lambda name, *args: names.append(name) or call(name, *args)
    )
    return names


@pytest.fixture
def freeze(randomize_batch_norms):
    def freeze(model):
        randomize_batch_norms(model).eval()
        return model  # mmdet's eval() returns None

    return freeze


@pytest.fixture
def folded(monkeypatch):
    """Batch norms that a convolution did."""
    norms = []
    pass_on = folding.pass_on
    monkeypatch.setattr(
        folding, 'pass_on', lambda *args: norms.append(args[1]) or pass_on(*args)
    )
    return norms
