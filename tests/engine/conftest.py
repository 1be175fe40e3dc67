"""A detector of random weights, and images for it."""

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules

from focal_retinanet import Detector


@pytest.fixture
def save(tiny_config, tmp_path):
    """Return a function that writes a checkpoint of random weights, with a ``meta``."""
    register_all_modules(init_default_scope=True)
    model = MODELS.build(tiny_config.model)

    def run(meta=None, change=lambda weights: weights):
        checkpoint = dict(state_dict=change(model.state_dict()))
        if meta is not None:
            checkpoint['meta'] = meta
        file = tmp_path / 'model.pth'
        torch.save(checkpoint, file)
        return str(file)

    return run


@pytest.fixture
def detector(tiny_config, save):
    return Detector(tiny_config, save(), 'cpu')


@pytest.fixture
def images():
    """Images of two sizes, whose shapes differ in the model too."""
    rng = np.random.default_rng(0)
    sizes = [(64, 64), (64, 32), (64, 64), (32, 64), (64, 64)]
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
