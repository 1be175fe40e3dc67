"""Test-time augmentation works on data sets of any wrapping."""

import copy
from pathlib import Path

import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from focal_retinanet.engine.test_time_augmentation import use_test_time_augmentation

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize('wrapper', [None, 'RepeatDataset', 'ConcatDataset'])
def test_every_data_set_is_augmented(wrapper):
    cfg = Config.fromfile(ROOT / 'configs/demo/retinanet_r18-slim_fpn_8e_shapes.py')
    own = cfg.test_dataloader.dataset.to_dict()
    if wrapper == 'RepeatDataset':
        cfg.test_dataloader.dataset = dict(type=wrapper, times=1, dataset=own)
    elif wrapper == 'ConcatDataset':
        cfg.test_dataloader.dataset = dict(type=wrapper, datasets=[own, own])
    use_test_time_augmentation(cfg)
    dataset = cfg.test_dataloader.dataset
    parts = {
        None: lambda: [dataset],
        'RepeatDataset': lambda: [dataset.dataset],
        'ConcatDataset': lambda: dataset.datasets,
    }[wrapper]()
    for part in parts:
        assert part.pipeline[-1].type == 'TestTimeAug'
    assert cfg.model.type == 'DetTTAModel'


def test_objects_stay_where_they_are_in_the_file(tiny_config):
    init_default_scope('mmdet')
    plain = DATASETS.build(copy.deepcopy(tiny_config.test_dataloader.dataset))
    use_test_time_augmentation(tiny_config)
    augmented = DATASETS.build(tiny_config.test_dataloader.dataset)
    expected = plain[0]['data_samples'].gt_instances.bboxes.tensor
    assert len(expected)
    for sample in augmented[0]['data_samples']:
        assert torch.equal(sample.gt_instances.bboxes.tensor, expected)
    flipped, upright = augmented[0]['inputs']
    assert torch.equal(flipped.flip(2), upright)
