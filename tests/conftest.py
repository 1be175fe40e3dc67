"""What the tests of several folders share.

Most of it is a tiny data set, a tiny detector, and runs that are trained, stopped and
resumed.
"""

import copy
import gc
import itertools
import json
import logging
import os
import runpy
import shutil
import sys
import time
import typing
import warnings
from pathlib import Path
from unittest import mock

import pytest
import torch
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config, ConfigDict
from mmengine.config import config as mmengine_config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from torch.utils._python_dispatch import TorchDispatchMode

from focal_retinanet.data.shapes import ShapesConfig, make_shapes
from focal_retinanet.engine.checkpoints.load import enforce_safe_loading
from focal_retinanet.engine.runner import Runner
from focal_retinanet.ops.fast_paths import step_aside
from focal_retinanet.visualization import DetVisualizer

ROOT = Path(__file__).parent.parent
VISUALIZERS = (DetVisualizer, DetLocalVisualizer)
DEMO = 'configs/demo/retinanet_r18-slim_fpn_8e_shapes.py'
#: Changes that make the demo's config train in a few seconds.
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
    # A detector with so little training still has to find something.
    'model.test_cfg.score_thr': 0.0,
    'train_cfg.max_epochs': 2,
    'train_cfg.val_interval': 2,
    'default_hooks.logger.interval': 1,
}


@pytest.fixture(autouse=True)
def as_in_a_fresh_process(monkeypatch):
    """Loads safely, as the tools do, and undoes what earlier tests left behind."""
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')  # restored afterwards
    enforce_safe_loading()
    # A run changes the package's logger.
    logger = logging.getLogger('focal_retinanet')
    for name in ('handlers', 'level', 'propagate'):
        monkeypatch.setattr(logger, name, getattr(logger, name))
    monkeypatch.setattr(step_aside, '_said', set())
    yield
    for manager in (MMLogger, DefaultScope, Visualizer, *VISUALIZERS):
        manager._instance_dict.clear()


@pytest.fixture(scope='session', autouse=True)
def a_gpu_repeats_its_results():
    """Lets exact comparisons hold on a GPU; a CPU is exact by itself."""
    if torch.cuda.is_available():
        os.environ['CUBLAS_WORKSPACE_CONFIG'] = ':4096:8'
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(scope='session', autouse=True)
def no_time_is_lost():
    """Spares hundreds of tiny runs what takes most of their time, and tests nothing."""
    # Each data set collects garbage, and goes through all of the imported modules.
    gc.freeze()
    with (
        # mmengine formats the config for each checkpoint.
        mock.patch.object(
            mmengine_config, 'FormatCode', lambda text, **kwargs: (text, False)
        ),
        # Workers of a loader in a reference cycle are waited for as long, in vain.
        mock.patch.object(torch.utils.data._utils, 'MP_STATUS_CHECK_INTERVAL', 0.2),
    ):
        yield
    gc.unfreeze()


@pytest.fixture(scope='session')
def shared_data():
    """Folder of real data beside the project. Tests without it are skipped."""
    folder = ROOT.parent / 'shared' / 'data'
    if not folder.is_dir():
        pytest.skip(f'there is no real data in {folder}')
    return folder


@pytest.fixture(scope='module')
def browser():
    """Debian's Chromium, without a window. Tests without it are skipped."""
    sync_api = pytest.importorskip(
        'playwright.sync_api', reason='pip install playwright drives the browser'
    )
    path = os.environ.get('CHROMIUM') or shutil.which('chromium')
    if path is None:
        pytest.skip('no Chromium: apt-get install chromium, or name one by $CHROMIUM')
    flags = (
        '--no-sandbox',
        '--disable-gpu',
        '--disable-background-networking',
        '--disable-component-update',
        '--no-first-run',
    )
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(flags))
        yield chromium
        chromium.close()


@pytest.fixture(scope='session')
def shapes_root(tmp_path_factory):
    """Make 16 training and 4 validation images of 64x64."""
    root = tmp_path_factory.mktemp('data') / 'shapes'
    make_shapes(root, ShapesConfig(train=16, val=4, width=64, height=64, max_size=32))
    return root


@pytest.fixture
def tiny_config(shapes_root, tmp_path, monkeypatch):
    """The demo's config, made tiny, with its own work directory."""
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


@pytest.fixture
def in_colours():
    """Return a function that makes a data set's config two parts of other colours."""

    def in_colours(part):
        other = copy.deepcopy(part)
        classes = range(len(part.metainfo.classes))
        other.metainfo.palette = [(i, 2, 3) for i in classes]
        return ConfigDict(type='ConcatDataset', datasets=[part, other])

    return in_colours


@pytest.fixture
def fail(monkeypatch, capsys):
    """Return a function that runs a tool in this process, and returns what it says."""
    monkeypatch.setenv('LOCAL_RANK', '0')  # restored afterwards

    def fail(tool, *words):
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, words)])
        with pytest.raises(SystemExit) as end, warnings.catch_warnings():
            runpy.run_path(str(ROOT / tool), run_name='__main__')
        assert end.value.code not in (0, None)
        return f'{"".join(capsys.readouterr())}{end.value}'

    return fail


class Interruption(Exception):
    """Stops a run."""


class Runs:
    """Trains a config, and reads what a run leaves behind."""

    _numbers = itertools.count()
    _started: typing.ClassVar[dict[str, str]] = {}

    @classmethod
    def build(cls, cfg, work_dir=None, runner_type=Runner, **changes):
        cfg = copy.deepcopy(cfg)
        cfg.merge_from_dict(changes)
        if work_dir is not None:
            cfg.work_dir = str(work_dir)
        # Runs that start in the same second need different names, and those of one
        # work directory would share a log.
        cfg.experiment_name = f'run-{next(cls._numbers)}'
        while cls._started.get(cfg.work_dir) == time.strftime('%H%M%S'):
            time.sleep(0.05)
        cls._started[cfg.work_dir] = time.strftime('%H%M%S')
        # All configs name it alike, so it would belong to the first run of a process.
        DetVisualizer._instance_dict.clear()
        return runner_type.from_cfg(cfg)

    @classmethod
    def train(cls, *args, **kwargs):
        runner = cls.build(*args, **kwargs)
        runner.train()
        return runner

    @classmethod
    def stop_after(cls, cfg, iterations, work_dir, **kwargs):
        """Train for this number of iterations, and stop in the next one."""
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

    @classmethod
    def stop_in_validation(cls, cfg, epoch, work_dir, **kwargs):
        """Train, and stop in the validation after this epoch."""
        runner = cls.build(cfg, work_dir, **kwargs)
        run_iter = type(runner.val_loop).run_iter

        def interrupt(loop, *args):
            if runner.epoch == epoch:
                raise Interruption
            return run_iter(loop, *args)

        with (
            mock.patch.object(type(runner.val_loop), 'run_iter', interrupt),
            pytest.raises(Interruption),
        ):
            runner.train()

    @staticmethod
    def by_iterations(cfg, workers=0, sampler='InfiniteSampler'):
        """Return a config that trains by iterations, 8 of 4 images each."""
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
        """Return the text of the log file."""
        (file,) = Path(runner.log_dir).glob('*.log')
        return file.read_text()

    @staticmethod
    def scalars_of(runner):
        """Return the logged scalars without those that depend on time."""
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


class NoReads(TorchDispatchMode):
    """Fails if the host would read from the device, and records the other operators.

    Each read makes the host wait for all work that was launched before.
    """

    READS = (
        '_local_scalar_dense',
        'bincount',
        'equal',
        'is_nonzero',
        'nonzero',
        'unique',
    )

    def __init__(self):
        super().__init__()
        self.operators = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert not name.startswith(self.READS), name
        if name in ('index', 'index_put', 'index_put_'):
            masks = [i for i in args[1] if i is not None and i.dtype == torch.bool]
            assert not masks, f'{name} has to count a mask'
        self.operators.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def no_reads():
    """A context in which the host may not read from the device."""
    return NoReads()


@pytest.fixture
def randomize_batch_norms():
    """A function that gives the batch norms of a model random parameters."""

    def randomize(model):
        torch.manual_seed(0)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.normal_(module.running_mean, std=0.2)
                torch.nn.init.uniform_(module.running_var, 0.5, 2)
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.normal_(module.bias, std=0.2)
        return model

    return randomize
