"""What a resumed run does not take from its config is said."""

import copy

import pytest
import torch
from mmdet.models import FPN, PAFPN, RetinaNet
from mmengine.config import Config
from mmengine.optim import (
    CosineAnnealingLR,
    CosineAnnealingMomentum,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    OptimWrapper,
)

from focal_retinanet.engine.checkpoints.resumed_settings import (
    describe_changed_settings,
    describe_other_settings,
)


def training(optimizer=None, **options):
    """An optimizer wrapper and its schedule, as a config has them."""
    kind, settings = optimizer or (torch.optim.SGD, dict(lr=0.01, momentum=0.9))
    wrapper = OptimWrapper(kind([torch.nn.Parameter(torch.ones(1))], **settings))
    schedule = [LinearLR(wrapper, 0.1, by_epoch=False, end=5)]
    if 'milestones' in options:
        schedule.append(MultiStepLR(wrapper, options['milestones']))
    if 'T_max' in options:
        schedule.append(CosineAnnealingLR(wrapper, T_max=options['T_max']))
    if 'cycle' in options:
        schedule = [
            OneCycleLR(wrapper, 0.1, total_steps=options['cycle']),
            CosineAnnealingMomentum(wrapper, T_max=options['cycle']),
        ]
    return wrapper, schedule


def checkpoint_of(wrapper, schedule, steps=3):
    for _ in range(steps):
        wrapper.step()
        for part in schedule:
            part.step()
    return copy.deepcopy(
        dict(
            optimizer=wrapper.state_dict(),
            param_schedulers=[part.state_dict() for part in schedule],
        )
    )


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(milestones=[2, 4]),
        dict(T_max=8),
        dict(cycle=10),
        dict(optimizer=(torch.optim.AdamW, dict(lr=0.01, betas=[0.9, 0.99]))),
    ],
    ids=str,
)
def test_nothing_is_said_of_the_same_settings(options):
    checkpoint = checkpoint_of(*training(**options))
    assert describe_other_settings(checkpoint, *training(**options), 'a.pth') is None


@pytest.mark.parametrize(
    ('old', 'new', 'text'),
    [
        (dict(T_max=8), dict(T_max=12), 'T_max of CosineAnnealingLR is 8, not 12'),
        (
            dict(milestones=[2, 4]),
            dict(milestones=[2, 5]),
            'milestones of MultiStepLR is [2, 4], not [2, 5]',
        ),
        (dict(), dict(T_max=8), '1 parts of param_scheduler, not 2'),
        (
            dict(optimizer=(torch.optim.SGD, dict(lr=0.01, momentum=0.9))),
            dict(optimizer=(torch.optim.SGD, dict(lr=0.001, momentum=0.8))),
            'lr is 0.01, not 0.001; momentum is 0.9, not 0.8',
        ),
        (
            dict(optimizer=(torch.optim.AdamW, dict(weight_decay=0.05))),
            dict(optimizer=(torch.optim.AdamW, dict(weight_decay=0.1))),
            'weight_decay is 0.05, not 0.1',
        ),
    ],
)
def test_other_settings_are_named(old, new, text):
    said = describe_other_settings(
        checkpoint_of(*training(**old)), *training(**new), 'a.pth'
    )
    assert f'keeps the settings of a.pth, not those of its config: {text}.' in said
    assert said.endswith('start a new run with --weights a.pth')


CONFIG = dict(
    model=dict(
        backbone=dict(depth=18, init_cfg=dict(type='Pretrained', checkpoint='a.pth')),
        bbox_head=dict(loss_cls=dict(gamma=2.0), strides=(8, 16), empty=()),
    ),
    train_dataloader=dict(batch_size=4, num_workers=2),
    data_root='data/',
)


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ({}, []),
        ({'model.backbone.init_cfg.checkpoint': 'b.pth', 'data_root': '/d/'}, []),
        ({'train_dataloader.num_workers': 0}, []),
        ({'model.bbox_head.strides': [8, 16], 'model.bbox_head.empty': []}, []),
        (
            {'model.bbox_head.loss_cls.gamma': 5, 'train_dataloader.batch_size': 2},
            [
                'train_dataloader.batch_size was 4, is 2',
                'model.bbox_head.loss_cls.gamma was 2.0, is 5',
            ],
        ),
        (
            {'model.bbox_head.strides': [8], 'model.neck': 'FPN'},
            [
                'model.bbox_head.strides.1 was 16, is None',
                'model.neck was None, is FPN',
            ],
        ),
    ],
    ids=str,
)
def test_settings_of_the_model_that_change_are_named(options, expected):
    meta = dict(cfg=Config(copy.deepcopy(CONFIG)).pretty_text)
    cfg = Config(copy.deepcopy(CONFIG))
    cfg.merge_from_dict(options)
    text = describe_changed_settings(dict(meta=meta), cfg, 'epoch_1.pth')
    assert (text is None) == (not expected)
    if expected:
        assert text.endswith('; '.join(expected)) and 'epoch_1.pth' in text


@pytest.mark.parametrize('cfg', [None, 7, 'a = = b', 'model = dict(a=len)'])
def test_a_checkpoint_without_a_config_says_nothing(cfg):
    checkpoint = dict(meta=dict(cfg=cfg))
    assert describe_changed_settings(checkpoint, CONFIG, 'epoch_1.pth') is None


def test_a_class_is_the_same_by_its_path_in_another_module():
    text = "model = dict(type='mmdet.models.RetinaNet', neck=dict(type='mmdet.FPN'))"
    checkpoint = dict(meta=dict(cfg=text))

    def changes(**model):
        return describe_changed_settings(checkpoint, dict(model=model), 'epoch_1.pth')

    assert changes(type=RetinaNet, neck=dict(type=FPN)) is None
    said = changes(type=RetinaNet, neck=dict(type=PAFPN))
    assert said.endswith('model.neck.type was mmdet.FPN, is mmdet.PAFPN')
    said = changes(type=RetinaNet, neck=dict(type='focal_retinanet.FPN'))
    assert said.endswith('model.neck.type was mmdet.FPN, is focal_retinanet.FPN')


def test_a_resumed_training_says_it(runs, tiny_config, tmp_path):
    tiny_config.param_scheduler = [
        dict(type='CosineAnnealingLR', T_max=2, convert_to_iter_based=True)
    ]
    runs.train(tiny_config, tmp_path)
    longer = copy.deepcopy(tiny_config)
    longer.train_cfg.max_epochs = 3
    longer.param_scheduler[0].T_max = 3
    longer.model.bbox_head.loss_cls.gamma = 1.0
    resumed = runs.train(longer, tmp_path, resume=True)
    text = ''.join(log.read_text() for log in tmp_path.glob('*/*.log'))
    (line,) = (line for line in text.splitlines() if 'keeps the settings' in line)
    steps = len(resumed.train_dataloader)
    assert f'T_max of CosineAnnealingLR is {2 * steps}, not {3 * steps}' in line
    assert 'WARNING' in line
    assert 'epoch_2.pth' in line
    (line,) = (line for line in text.splitlines() if 'goes on with its own' in line)
    assert line.endswith('own: model.bbox_head.loss_cls.gamma was 2.0, is 1.0')
