"""Runs that are trained, stopped and resumed."""

import copy
import itertools
import json
from pathlib import Path

import pytest
import torch

from focal_retinanet.engine.runner import Runner
from focal_retinanet.visualization import DetVisualizer


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
