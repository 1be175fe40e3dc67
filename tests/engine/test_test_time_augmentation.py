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


def test_padding_is_not_mirrored(tiny_config):
    """mmdet mirrors boxes back about the middle of the image without its padding."""
    init_default_scope('mmdet')
    pipeline = tiny_config.test_dataloader.dataset.pipeline
    pipeline.insert(2, dict(type='Pad', size=(96, 128)))
    use_test_time_augmentation(tiny_config)
    flipped, upright = DATASETS.build(tiny_config.test_dataloader.dataset)[0]['inputs']
    assert flipped.shape == upright.shape == (3, 128, 96)
    assert torch.equal(flipped[:, :64, :64].flip(2), upright[:, :64, :64])
    assert not flipped[:, :, 64:].any() and not upright[:, :, 64:].any()


def test_views_are_merged_as_the_models_config_says(tiny_config):
    nms = dict(type='soft_nms', iou_threshold=0.3, class_agnostic=True)
    tiny_config.model.test_cfg.update(nms=nms, max_per_img=7)
    cfgs = [copy.deepcopy(tiny_config) for _ in range(3)]
    cfgs[1].model.test_cfg.max_per_img = -1
    cfgs[2].tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms='own'))
    for cfg in cfgs:
        use_test_time_augmentation(cfg)
    assert cfgs[0].model.tta_cfg == dict(nms=nms, max_per_img=7)
    assert list(range(200))[: cfgs[1].model.tta_cfg.max_per_img] == list(range(200))
    assert cfgs[2].model.tta_cfg == dict(nms='own')


@pytest.mark.parametrize('is_own', [False, True])
def test_the_detector_keeps_its_preprocessor(is_own, tiny_config, runs):
    """mmengine gives the one of the top level to the wrapper, which would set it."""
    given = copy.deepcopy(tiny_config.model.data_preprocessor)
    if is_own:  # another one at the top level counts for nothing
        tiny_config.data_preprocessor = dict(given, mean=[0, 0, 0])
    else:
        tiny_config.data_preprocessor = tiny_config.model.pop('data_preprocessor')
    use_test_time_augmentation(tiny_config)
    model = runs.build(tiny_config).model
    mean = model.module.data_preprocessor.mean.flatten().tolist()
    assert mean == pytest.approx(given.mean)


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
