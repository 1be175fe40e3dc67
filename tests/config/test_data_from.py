"""A detector's config takes the data of another config."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.ablation_table import load_config_or_row
from focal_retinanet.config.data_from import num_classes, resolve_data_from
from focal_retinanet.engine.runner import Runner

ROOT = Path(__file__).parents[2]
SHAPES = ROOT / 'configs/_base_/datasets/shapes_detection.py'
BASELINES = sorted((ROOT / 'configs/baselines').glob('*.py'))


def leaves(dataset):
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


@pytest.mark.parametrize('file', BASELINES, ids=lambda p: p.stem)
def test_baselines_are_mmdets_on_coco(file):
    cfg = load_config_or_row(str(file))
    theirs = Config.fromfile(file)
    assert cfg.model.to_dict() == theirs.model.to_dict()
    assert cfg.optim_wrapper.to_dict() == theirs.optim_wrapper.to_dict()
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        ours, stock = leaves(cfg[loader].dataset), leaves(theirs[loader].dataset)
        assert [t.type for t in ours.pipeline] == [t.type for t in stock.pipeline]
        assert ours.ann_file == stock.ann_file
    assert cfg.val_evaluator.type == 'focal_retinanet.CocoMetric'


@pytest.mark.parametrize('file', BASELINES, ids=lambda p: p.stem)
def test_baselines_train_and_test_on_own_data(file, shapes_root, tmp_path, monkeypatch):
    monkeypatch.setenv('SHAPES_ROOT', str(shapes_root))
    cfg = load_config_or_row(str(file), SHAPES)
    assert num_classes(cfg.train_dataloader.dataset) == 5
    cfg.merge_from_dict(
        {
            'work_dir': str(tmp_path),
            'experiment_name': file.stem,
            'model.backbone.init_cfg': None,
            'train_dataloader.batch_size': 1,
            'train_cfg': dict(_delete_=True, type='IterBasedTrainLoop', max_iters=1),
            'param_scheduler': [],
            **{
                f'{split}_dataloader.{key}': value
                for split in ('train', 'val', 'test')
                for key, value in dict(num_workers=0, persistent_workers=False).items()
            },
        }
    )
    for step in [
        *leaves(cfg.train_dataloader.dataset).pipeline,
        *leaves(cfg.val_dataloader.dataset).pipeline,
    ]:
        if step.type == 'Resize':  # for a quick test
            step.scale = (300, 300) if 'ssd' in file.stem else (96, 96)
        elif step.type == 'RandomResize':
            step.scale = [(96, 96), (128, 128)]
    cfg.test_dataloader = cfg.val_dataloader
    cfg.model.pop('init_cfg', None)
    runner = Runner.from_cfg(cfg)
    before = {k: v.clone() for k, v in runner.model.state_dict().items()}
    runner.train()
    after = runner.model.state_dict()
    assert all(torch.isfinite(v.float()).all() for v in after.values())
    assert any(not torch.equal(before[k], after[k]) for k in before)
    head = getattr(runner.model, 'roi_head', runner.model).bbox_head
    assert head.num_classes == 5
    metrics = runner.test()
    assert not metrics or 0 <= metrics['coco/bbox_mAP'] <= 1  # empty without detections


def test_only_the_data_change(tmp_path):
    cfg = load_config_or_row(str(BASELINES[0]))
    moved = load_config_or_row(str(BASELINES[0]), SHAPES)
    for key in ('param_scheduler', 'optim_wrapper', 'train_cfg', 'val_cfg'):
        assert moved[key] == cfg[key]
    assert moved.train_dataloader.batch_size == cfg.train_dataloader.batch_size
    assert moved.val_evaluator == Config.fromfile(SHAPES).val_evaluator
    assert 'data_from' not in moved

    plain = Config.fromfile(ROOT / 'configs/demo/retinanet_r18-slim_fpn_8e_shapes.py')
    assert resolve_data_from(plain) is plain
    joined = tmp_path / 'joined.py'
    joined.write_text(
        f'_base_ = {str(SHAPES)!r}\n'
        'train_dataloader = dict(dataset=dict(_delete_=True, type="ConcatDataset",'
        ' datasets=[_base_.train_dataloader.dataset] * 2))\n'
    )
    both = load_config_or_row(str(BASELINES[0]), joined).train_dataloader.dataset
    assert both.type == 'ConcatDataset'
    pipeline = leaves(cfg.train_dataloader.dataset).pipeline
    assert [part.pipeline for part in both.datasets] == [pipeline] * 2


def test_data_that_are_not_there_are_named(tmp_path):
    cfg = Config.fromfile(BASELINES[0])
    nothing = tmp_path / 'nothing.py'
    nothing.write_text('a = 1\n')
    with pytest.raises(UserError, match=r'nothing\.py.*no train_dataloader'):
        resolve_data_from(cfg, nothing)
    with pytest.raises(FileNotFoundError, match='absent'):
        resolve_data_from(cfg, tmp_path / 'absent.py')


def test_a_detector_whose_own_data_are_several_takes_others(tmp_path):
    several = tmp_path / 'several.py'
    several.write_text(f'_base_ = {str(BASELINES[0])!r}\n')
    cfg = Config.fromfile(several)
    own = leaves(cfg.val_dataloader.dataset)
    cfg.val_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[own.to_dict(), own.to_dict()], _delete_=True
    )
    resolved = resolve_data_from(cfg, SHAPES)
    found = resolved.val_dataloader.dataset
    assert found.ann_file.startswith('annotations/val')
    assert [t.type for t in found.pipeline] == [t.type for t in own.pipeline]
