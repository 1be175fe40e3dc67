"""Detectors whose scores spread over (0, 1), for tests of exporting."""

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules


def _draw_images(count, height, width, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(
        rng.integers(0, 256, (count, 3, height, width), dtype=np.uint8)
    )


@pytest.fixture(scope='session')
def draw_images():
    """Return a function that draws images (count, 3, height, width), uint8."""
    return _draw_images


@pytest.fixture
def build(tiny_config):
    """Return a function that builds a detector, with changes of its config."""
    register_all_modules(init_default_scope=True)

    def run(**changes):
        cfg = tiny_config.copy()
        cfg.merge_from_dict({'model.test_cfg.score_thr': 0.05})
        cfg.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
        torch.manual_seed(0)
        model = MODELS.build(cfg.model).eval()
        head = model.bbox_head
        images = _draw_images(1, 64, 64) / 64 - 2
        with torch.no_grad():
            for conv, spread in ((head.retina_cls, 1.5), (head.retina_reg, 0.3)):
                conv.weight.normal_()
                conv.bias.fill_(0)
                maps = head(model.extract_feat(images))[conv is head.retina_reg]
                conv.weight.mul_(spread / maps[0].std())
        return model

    return run
