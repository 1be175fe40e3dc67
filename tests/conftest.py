"""A tiny data set and a tiny detector, for tests that train one."""

import logging
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from focal_retinanet.data.shapes import ShapesConfig, make_shapes
from focal_retinanet.engine.checkpoint import enforce_safe_loading
from focal_retinanet.visualization import DetVisualizer

ROOT = Path(__file__).parent.parent
DEMO = 'configs/demo/retinanet_r18-slim_fpn_8e_shapes.py'
#: Changes that turn the demo's config into one of a few seconds.
TINY = {
    # oneDNN of torch 2.1 crashes on 1x1 convolutions of 8 channels, channels last.
    'model.backbone.base_channels': 16,
    'model.neck.in_channels': [16, 32, 64, 128],
    'model.neck.out_channels': 16,
    'model.bbox_head.in_channels': 16,
    'model.bbox_head.feat_channels': 16,
    'model.bbox_head.stacked_convs': 1,
    'model.bbox_head.norm_cfg.num_groups': 4,
    'train_dataloader.batch_size': 4,
    'train_dataloader.num_workers': 0,
    'val_dataloader.num_workers': 0,
    'val_dataloader.persistent_workers': False,
    'test_dataloader.num_workers': 0,
    'test_dataloader.persistent_workers': False,
    # Hardly trained, it still has to find something.
    'model.test_cfg.score_thr': 0.0,
    'train_cfg.max_epochs': 2,
    'train_cfg.val_interval': 2,
    'default_hooks.logger.interval': 1,
}


@pytest.fixture(autouse=True)
def as_in_a_fresh_process(monkeypatch):
    """Safe loading as the tools have it, nothing global of an earlier test."""
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')  # restored afterwards
    enforce_safe_loading()
    # A run takes the package's logger to itself.
    logger = logging.getLogger('focal_retinanet')
    for name in ('handlers', 'level', 'propagate'):
        monkeypatch.setattr(logger, name, getattr(logger, name))
    yield
    for manager in (MMLogger, DefaultScope, Visualizer, DetVisualizer):
        manager._instance_dict.clear()


@pytest.fixture(scope='session')
def shared_data():
    """Folder of real data beside the project; skips where it is absent."""
    folder = ROOT.parent / 'shared' / 'data'
    if not folder.is_dir():
        pytest.skip(f'real data is not there: {folder}')
    return folder


@pytest.fixture(scope='session')
def shapes_root(tmp_path_factory):
    """16 training and 4 validation images of 64x64."""
    root = tmp_path_factory.mktemp('data') / 'shapes'
    make_shapes(root, ShapesConfig(train=16, val=4, width=64, height=64, max_size=32))
    return root


@pytest.fixture
def tiny_config(shapes_root, tmp_path, monkeypatch):
    """The demo's config, tiny, with a work directory of the test's own."""
    monkeypatch.setenv('SHAPES_ROOT', str(shapes_root))
    cfg = Config.fromfile(ROOT / DEMO)
    cfg.merge_from_dict(TINY)
    cfg.work_dir = str(tmp_path / 'work')
    for pipeline in (cfg.train_pipeline, cfg.test_pipeline):
        for step in pipeline:
            if step.type == 'Resize':
                step.scale = (64, 64)
    cfg.train_dataloader.dataset.pipeline = cfg.train_pipeline
    cfg.val_dataloader.dataset.pipeline = cfg.test_pipeline
    cfg.test_dataloader.dataset.pipeline = cfg.test_pipeline
    return cfg
