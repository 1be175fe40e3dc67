"""One number sets the length of a training and of its schedule."""

import copy
from pathlib import Path

import pytest
from mmengine.config import Config

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.schedule import set_epochs, set_iters

CONFIGS = Path(__file__).parents[2] / 'configs'
BY_EPOCHS = CONFIGS / 'bccd/retinanet_r18_fpn_24e_bccd-320px.py'
BY_ITERATIONS = CONFIGS / 'retinanet/retinanet_r50_fpn_90k_coco-800px.py'


@pytest.mark.parametrize(
    ('epochs', 'milestones', 'val_interval'),
    [(24, [16, 22], 4), (12, [8, 11], 4), (36, [24, 33], 4), (3, [2], 3), (1, [], 1)],
)
def test_milestones_keep_their_share(epochs, milestones, val_interval):
    cfg = Config.fromfile(BY_EPOCHS)
    warm_up = copy.deepcopy(cfg.param_scheduler[0])
    set_epochs(cfg, epochs)
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.train_cfg.val_interval == val_interval
    assert cfg.param_scheduler[1].milestones == milestones
    assert cfg.param_scheduler[1].end == epochs
    assert cfg.param_scheduler[0] == warm_up  # in iterations


def test_iterations_are_stretched_with_their_warm_up():
    cfg = Config.fromfile(BY_ITERATIONS)
    set_iters(cfg, 9000)
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (9000, 9000)
    assert cfg.default_hooks.checkpoint.interval <= 9000  # else none is saved
    warm_up, steps = cfg.param_scheduler
    assert (warm_up.begin, warm_up.end) == (0, 50)
    assert (steps.milestones, steps.end) == ([6000, 8000], 9000)


@pytest.mark.parametrize(
    ('file', 'change', 'message'),
    [
        (BY_EPOCHS, set_iters, r'--iters 9: .*24e.* in epochs; give --epochs N'),
        (BY_ITERATIONS, set_epochs, r'--epochs 9: .*90k.* in iterations; .* --iters N'),
    ],
)
def test_the_other_unit_is_named(file, change, message):
    with pytest.raises(UserError, match=message):
        change(Config.fromfile(file), 9)


def test_all_kinds_of_schedulers():
    def scheduler(**changes):
        return dict(
            dict(type='CosineAnnealingLR', begin=5, T_max=285, end=285), **changes
        )

    last = dict(type='ConstantLR', by_epoch=True, begin=285, end=300)
    restarts = dict(type='CosineRestartLR', periods=[100, 100, 100])
    cfg = Config(dict(train_cfg=dict(by_epoch=True, max_epochs=300)))
    for form in (
        [scheduler(), last, restarts],
        dict(one=[scheduler(), last], two=restarts),
    ):
        cfg.param_scheduler = copy.deepcopy(form)
        cfg.train_cfg.max_epochs = 300
        set_epochs(cfg, 60)
        if isinstance(form, list):
            first, second, third = cfg.param_scheduler
        else:
            (first, second), third = cfg.param_scheduler.one, cfg.param_scheduler.two
        assert (first.begin, first.T_max, first.end) == (1, 57, 57)
        assert (second.begin, second.end) == (57, 60)
        assert third.periods == [20, 20, 20]
    cfg.param_scheduler = scheduler(end=6)
    with pytest.raises(
        UserError, match='--epochs 3: CosineAnnealingLR, from 5 to 6 of'
    ):
        set_epochs(cfg, 3)
    cfg.param_scheduler = None
    set_epochs(cfg, 5)
    assert cfg.train_cfg.max_epochs == 5
