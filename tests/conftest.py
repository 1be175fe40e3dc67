"""A tiny data set, a tiny detector, and runs that are trained, stopped and resumed."""

import copy
import itertools
import json
import logging
from pathlib import Path
from unittest import mock

import pytest
import torch
from mmengine.config import Config
from mmengine.config import config as mmengine_config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from focal_retinanet.data.shapes import ShapesConfig, make_shapes
from focal_retinanet.engine.checkpoints.load import enforce_safe_loading
from focal_retinanet.engine.runner import Runner
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


@pytest.fixture(scope='session', autouse=True)
def configs_formatted_once():
    """mmengine formats the config for each checkpoint, most of a tiny run's time."""
    formatted = {}

    def format_once(text, **kwargs):
        if text not in formatted:
            formatted[text] = format_code(text, **kwargs)
        return formatted[text]

    format_code = mmengine_config.FormatCode
    with mock.patch.object(mmengine_config, 'FormatCode', format_once):
        yield


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


class Interruption(Exception):
    """What stops a run."""


class Runs:
    """Trainings of a config; each returns its runner."""

    _numbers = itertools.count()

    @classmethod
    def build(cls, cfg, work_dir=None, runner_type=Runner, **changes):
        cfg = copy.deepcopy(cfg)
        cfg.merge_from_dict(changes)
        if work_dir is not None:
            cfg.work_dir = str(work_dir)
        # Runs of one second, too, need names of their own.
        cfg.experiment_name = f'run-{next(cls._numbers)}'
        # Of one name in all configs, it would draw for the first run of a process.
        DetVisualizer._instance_dict.clear()
        return runner_type.from_cfg(cfg)

    @classmethod
    def train(cls, *args, **kwargs):
        runner = cls.build(*args, **kwargs)
        runner.train()
        return runner

    @classmethod
    def stop_after(cls, cfg, iterations, work_dir, **kwargs):
        """Train, and stop in the iteration after these."""
        runner = cls.build(cfg, work_dir, **kwargs)
        step = runner.model.train_step
        calls = 0

        def train_step(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls > iterations:
                raise Interruption
            return step(*args, **kwargs)

        runner.model.train_step = train_step
        with pytest.raises(Interruption):
            runner.train()
        return runner

    @staticmethod
    def by_iterations(cfg, workers=0, sampler='InfiniteSampler'):
        """As configs/retinanet have it, for 8 iterations of 4 images."""
        cfg = copy.deepcopy(cfg)
        cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=8, val_interval=3)
        cfg.param_scheduler = [dict(type='LinearLR', by_epoch=False, end=6)]
        cfg.default_hooks.checkpoint = dict(
            type='CheckpointHook', by_epoch=False, interval=5
        )
        cfg.default_hooks.logger.log_metric_by_epoch = False
        cfg.log_processor.by_epoch = False
        cfg.train_dataloader.update(
            num_workers=workers,
            persistent_workers=workers > 0,
            sampler=dict(type=sampler, shuffle=True),
            batch_sampler=dict(type='AspectRatioBatchSampler'),
        )
        return cfg

    @staticmethod
    def log_of(runner):
        """Text of the log file."""
        (file,) = Path(runner.log_dir).glob('*.log')
        return file.read_text()

    @staticmethod
    def scalars_of(runner):
        """Lines of the log without what depends on the time."""
        file = Path(runner.log_dir) / 'vis_data' / 'scalars.json'
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for line in lines:
            for name in ('time', 'data_time', 'memory'):
                line.pop(name, None)
        return lines

    @staticmethod
    def assert_same_weights(one, other):
        one, other = one.model.state_dict(), other.model.state_dict()
        assert one.keys() == other.keys()
        for key in one:
            assert torch.equal(one[key], other[key]), key


@pytest.fixture
def runs():
    return Runs
