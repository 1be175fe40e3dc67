"""A key of a config file that no one reads, and that is likely a mistake, is named."""

import copy
from pathlib import Path

import mmdet
import pytest
from mmengine.config import Config

from focal_retinanet.config.unread_keys import describe_unread_keys

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.mark.parametrize(
    ('key', 'value', 'meant'),
    [
        ('train_dataloder', dict(batch_size=2), 'train_dataloader.batch_size'),
        ('load_form', 'x.pth', 'load_from'),
        ('fold_batchnorm', True, 'fold_batch_norm'),
        ('seed', 3, 'randomness.seed'),
        ('optimizer', dict(type='SGD', lr=0.3), 'optim_wrapper.optimizer.type'),
        ('runner', dict(max_epochs=12), 'train_cfg.max_epochs'),
        ('data', dict(samples_per_gpu=2), 'train_dataloader.batch_size'),
    ],
)
def test_misspelt_keys_and_those_of_mmdet_2_are_named(tiny_config, key, value, meant):
    tiny_config[key] = value
    (line,) = describe_unread_keys(tiny_config)
    assert f'no one reads {key}; did you mean {meant}' in line


@pytest.mark.parametrize('head', ['focal_retinanet.RetinaHead', 'mmdet.RetinaHead'])
def test_keys_that_a_retina_head_ignores_are_named(tiny_config, head):
    tiny_config.model.bbox_head.type = head
    tiny_config.model.test_cfg.score_threshold = 0.3
    tiny_config.model.train_cfg.rpn = dict(nms_pre=10)
    of_training, of_test = describe_unread_keys(tiny_config)
    assert 'no one reads model.train_cfg.rpn; known are allowed_border, ' in of_training
    assert of_test.endswith('model.test_cfg.score_threshold; did you mean score_thr?')


@pytest.mark.parametrize(
    ('where', 'key', 'meant'),
    [
        ('optim_wrapper.paramwise_cfg', 'norm_decay_mul', 'norm_decay_mult'),
        ('optim_wrapper.paramwise_cfg.custom_keys.backbone', 'lr_mul', 'lr_mult'),
        ('env_cfg', 'cudnn_bench', 'cudnn_benchmark'),
        ('auto_scale_lr', 'enabled', 'enable'),
    ],
)
def test_keys_that_mmengine_ignores_are_named(tiny_config, where, key, meant):
    groups = dict(custom_keys=dict(backbone=dict(lr_mult=0.1, weight_decay=0)))
    tiny_config.optim_wrapper.paramwise_cfg = groups
    tiny_config.merge_from_dict({f'{where}.{key}': 0.1})
    (line,) = describe_unread_keys(tiny_config)
    assert line.endswith(f'no one reads {where}.{key}; did you mean {meant}?')


def test_another_constructor_may_read_other_keys(tiny_config):
    tiny_config.optim_wrapper.constructor = (
        'mmdet.LearningRateDecayOptimizerConstructor'
    )
    tiny_config.optim_wrapper.paramwise_cfg = dict(decay_rate=0.7)
    assert describe_unread_keys(tiny_config) == []


def test_a_model_of_several_heads_may_read_other_keys(tiny_config):
    tiny_config.model.bbox_head = [tiny_config.model.bbox_head]
    tiny_config.model.test_cfg = [dict(score_thr=0.1)]
    tiny_config.model.train_cfg.rpn = dict(nms_pre=10)
    assert describe_unread_keys(tiny_config) == []


def test_another_head_may_read_other_keys(tiny_config):
    tiny_config.model.bbox_head.type = 'mmdet.ATSSHead'
    tiny_config.model.test_cfg.with_nms = False
    assert describe_unread_keys(tiny_config) == []


def test_a_variable_that_is_in_use_is_no_mistake(tiny_config):
    tiny_config.optimizer = copy.deepcopy(tiny_config.optim_wrapper.optimizer)
    tiny_config.my_own_name = 3
    assert describe_unread_keys(tiny_config) == []


def test_configs_of_mmdet_and_of_the_project_have_no_such_key():
    of_mmdet = Path(mmdet.__file__).parent / '.mim' / 'configs'
    files = [
        *CONFIGS.glob('*/*px.py'),
        of_mmdet / 'retinanet/retinanet_r50_fpn_1x_coco.py',
        of_mmdet / 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
        of_mmdet / 'yolox/yolox_s_8xb8-300e_coco.py',
        of_mmdet / 'rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    ]
    for file in files:
        assert describe_unread_keys(Config.fromfile(file)) == [], file
