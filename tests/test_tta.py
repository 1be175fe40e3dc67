"""Test-time augmentation of ``tools/test.py`` on data sets in any wrapper."""

import runpy
from pathlib import Path

import pytest
from mmengine.config import Config

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize('wrapper', [None, 'RepeatDataset', 'ConcatDataset'])
def test_every_data_set_is_augmented(wrapper):
    use_test_time_augmentation = runpy.run_path(str(ROOT / 'tools/test.py'))[
        'use_test_time_augmentation'
    ]
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
