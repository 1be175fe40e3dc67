"""What the tests of convolutions share."""

import pytest

from focal_retinanet.acceleration import winograd


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
