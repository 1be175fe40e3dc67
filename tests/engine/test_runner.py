"""Training as a whole: reproducible, resumable, robust to odd data, readable."""

import copy
import json
import random
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.datasets import CocoDataset
from mmengine.runner import Runner as MMEngineRunner
from torch import nn

from focal_retinanet.cli.errors import UserError
from focal_retinanet.data.check_data import DataError
from focal_retinanet.engine.runner import Runner


def weights(runner):
    return runner.model.state_dict()


def assert_same_weights(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key


def test_one_seed_gives_one_result(runs, tiny_config, tmp_path):
    first = runs.train(tiny_config, tmp_path / 'first')
    second = runs.train(tiny_config, tmp_path / 'second')
    other = runs.train(tiny_config, tmp_path / 'other', **{'randomness.seed': 1})
    assert_same_weights(weights(first), weights(second))
    key = 'bbox_head.retina_cls.weight'
    assert not torch.equal(weights(first)[key], weights(other)[key])


class Noise(nn.Module):
    """A neck after the neck that draws random numbers in the forward pass."""

    def __init__(self, neck):
        super().__init__()
        self.neck = neck

    def forward(self, maps):
        maps = self.neck(maps)
        scale = 1 + 0.1 * np.random.random() + 0.1 * random.random()
        return [scale * F.dropout(level, 0.1, self.training) for level in maps]


@pytest.fixture
def random_config(tiny_config, monkeypatch):
    """Use augmentation and a model that draw from all three generators."""
    tiny_config.train_dataloader.dataset.pipeline = [
        *tiny_config.train_pipeline[:2],
        dict(type='RandomChoiceResize', scales=[(64, 64), (96, 96)], keep_ratio=True),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PhotoMetricDistortion'),
        dict(type='RandomErasing', n_patches=(1, 3), ratio=(0.1, 0.3)),
        dict(type='PackDetInputs'),
    ]
    build_model = Runner.build_model

    def build_noisy_model(self, model):
        model = build_model(self, model)
        model.neck = Noise(model.neck)
        return model

    monkeypatch.setattr(Runner, 'build_model', build_noisy_model)
    return tiny_config


@pytest.mark.parametrize('workers', [0, 2])
def test_resume_gives_the_weights_of_an_uninterrupted_run(
    runs, random_config, tmp_path, workers
):
    random_config.train_dataloader.num_workers = workers
    random_config.train_dataloader.persistent_workers = workers > 0
    whole = runs.train(random_config, tmp_path / 'whole')
    runs.stop_after(
        random_config, 4, tmp_path / 'stopped'
    )  # the second epoch has begun
    assert (tmp_path / 'stopped' / 'epoch_1.pth').exists()
    resumed = runs.train(random_config, tmp_path / 'stopped', resume=True)
    assert_same_weights(weights(whole), weights(resumed))


@pytest.mark.parametrize('workers', [0, 2])
def test_resume_of_a_run_by_iterations(runs, random_config, tmp_path, workers):
    cfg = runs.by_iterations(random_config, workers)
    whole = runs.train(cfg, tmp_path / 'whole')
    runs.stop_after(cfg, 6, tmp_path / 'stopped')
    assert (tmp_path / 'stopped' / 'iter_5.pth').exists()
    resumed = runs.train(cfg, tmp_path / 'stopped', resume=True)
    assert resumed.iter == 8
    assert_same_weights(weights(whole), weights(resumed))


def test_workers_change_nothing(runs, random_config, tmp_path):
    cfg = runs.by_iterations(random_config, 2)
    runs.stop_after(cfg, 6, tmp_path / 'stopped')
    resumed = runs.train(runs.by_iterations(cfg, 0), tmp_path / 'stopped', resume=True)
    one = runs.train(runs.by_iterations(cfg, 1), tmp_path / 'one')
    assert_same_weights(weights(one), weights(resumed))


def test_resume_of_a_run_by_iterations_that_goes_through_its_data_again(
    runs, random_config, tmp_path, monkeypatch
):
    monkeypatch.setattr('mmengine.runner.loops.time.sleep', lambda seconds: None)
    cfg = runs.by_iterations(
        random_config, sampler='DefaultSampler'
    )  # 4 batches per pass
    whole = runs.train(cfg, tmp_path / 'whole')
    runs.stop_after(cfg, 6, tmp_path / 'stopped')
    resumed = runs.train(cfg, tmp_path / 'stopped', resume=True)
    assert_same_weights(weights(whole), weights(resumed))


def test_resume_does_not_load_again_what_was_trained(
    runs, random_config, tmp_path, monkeypatch
):
    cfg = runs.by_iterations(random_config)
    runs.stop_after(cfg, 6, tmp_path / 'stopped')
    loaded = []
    prepare_data = CocoDataset.prepare_data

    def count(self, index):
        loaded.append(index)
        return prepare_data(self, index)

    monkeypatch.setattr(CocoDataset, 'prepare_data', count)
    runs.train(
        cfg,
        tmp_path / 'stopped',
        resume=True,
        val_cfg=None,
        **{'val_dataloader': None, 'val_evaluator': None},
    )
    assert len(loaded) == 3 * 4  # iterations 6, 7 and 8


def test_mmengines_runner_resumes_by_epochs_and_warns_by_iterations(
    runs, tiny_config, tmp_path, shapes_root
):
    # mmengine's runner does not give evaluators the data set's file.
    tiny_config.val_evaluator.ann_file = f'{shapes_root}/annotations/val.json'
    by_mmengine = dict(runner_type=MMEngineRunner)
    whole = runs.train(tiny_config, tmp_path / 'whole', **by_mmengine)
    runs.stop_after(tiny_config, 4, tmp_path / 'stopped', **by_mmengine)
    resumed = runs.train(tiny_config, tmp_path / 'stopped', resume=True, **by_mmengine)
    assert_same_weights(weights(whole), weights(resumed))
    runner = runs.train(
        runs.by_iterations(tiny_config), tmp_path / 'other', **by_mmengine
    )
    (log,) = Path(runner.log_dir).glob('*.log')
    assert 'a resumed run will differ' in log.read_text()


def test_an_argument_of_the_checkpoint_hook_is_checked_before_training(
    runs, tiny_config
):
    tiny_config.default_hooks.checkpoint.save_bests = 'auto'
    with pytest.raises(UserError, match=r'save_bests, .*; do you mean save_best\?'):
        runs.build(tiny_config)


def test_checkpoint_of_training_tests(runs, tiny_config, tmp_path):
    trained = runs.train(tiny_config)
    cfg = copy.deepcopy(tiny_config)
    cfg.load_from = str(tmp_path / 'work' / 'epoch_2.pth')
    tester = Runner.from_cfg(cfg)
    metrics = tester.test()
    assert 0 <= metrics['coco/bbox_mAP'] <= 1
    assert_same_weights(weights(trained), weights(tester))


def test_detections_are_kept_next_to_the_log(runs, tiny_config, tmp_path):
    tester = runs.train(tiny_config)
    assert tester.test()
    for name in ('val', 'test'):
        (file,) = (tmp_path / 'work').glob(f'*/{name}_detections.bbox.json')
        assert json.loads(file.read_text())[0].keys() >= {'image_id', 'score', 'bbox'}
    chosen = str(tmp_path / 'mine')
    tester = runs.train(
        tiny_config, tmp_path / 'other', **{'val_evaluator.outfile_prefix': chosen}
    )
    assert Path(f'{chosen}.bbox.json').exists()
    assert not list((tmp_path / 'other').glob('*/val_detections*'))


def test_detections_of_several_data_sets_are_kept_apart(runs, tiny_config, tmp_path):
    parts = [copy.deepcopy(tiny_config.val_dataloader.dataset) for _ in range(2)]
    tiny_config.val_dataloader.dataset = dict(type='ConcatDataset', datasets=parts)
    metric = dict(type='focal_retinanet.CocoMetric', metric='bbox')
    tiny_config.val_evaluator = dict(
        type='MultiDatasetsEvaluator',
        metrics=[metric] * 2,
        dataset_prefixes=['one', 'two'],
    )
    runs.train(tiny_config)
    names = ['val_detections.bbox.json', 'val_detections_2.bbox.json']
    files = sorted((tmp_path / 'work').glob('*/val_detections*.bbox.json'))
    assert [file.name for file in files] == names
    # The same data set twice.
    one, two = (json.loads(file.read_text()) for file in files)
    assert one == two != []


def test_none_removes_a_default_hook(runs, tiny_config, tmp_path):
    options = {'default_hooks.visualization': None, 'default_hooks.checkpoint': None}
    runner = runs.train(tiny_config, tmp_path, **options)
    kinds = {type(hook).__name__ for hook in runner.hooks}
    assert 'DistSamplerSeedHook' in kinds
    assert not kinds & {'DetVisualizationHook', 'CheckpointHook'}


def test_validation_draws_where_it_is_asked_to(runs, tiny_config, tmp_path):
    runs.train(
        tiny_config, **{'default_hooks.visualization': dict(draw=True, interval=1)}
    )
    (picture,) = (tmp_path / 'work').glob('*/vis_data/vis_image/val_img_*.png')
    assert picture.stat().st_size > 10_000


def test_images_without_objects_train_and_test(
    runs, tiny_config, shapes_root, tmp_path
):
    for split in ('train', 'val'):
        coco = json.loads((shapes_root / f'annotations/{split}.json').read_text())
        empty = {image['id'] for image in coco['images'][::2]}
        coco['annotations'] = [
            a for a in coco['annotations'] if a['image_id'] not in empty
        ]
        (tmp_path / f'{split}.json').write_text(json.dumps(coco))
    changes = {
        'train_dataloader.dataset.ann_file': str(tmp_path / 'train.json'),
        'val_dataloader.dataset.ann_file': str(tmp_path / 'val.json'),
        'train_dataloader.batch_size': 2,
    }
    runner = runs.train(tiny_config, **changes)
    assert all(torch.isfinite(w).all() for w in weights(runner).values())


@pytest.mark.parametrize(
    ('changes', 'says'),
    [
        ({'model.bbox_head.num_classes': 7}, 'built for 7 classes'),
        ({'train_dataloader.dataset.ann_file': 'annotations/nope.json'}, r'nope\.json'),
        ({'val_dataloader.dataset.data_prefix.img': 'images/nope'}, 'missing on disk'),
        (
            {'train_dataloader.dataset.metainfo.classes': ('circle', 'sqare')},
            'class sqare of metainfo.*is sqare square',
        ),
    ],
)
def test_data_that_does_not_fit_stops_before_the_first_iteration(
    runs, tiny_config, tmp_path, changes, says
):
    with pytest.raises(DataError, match=says):
        runs.train(tiny_config, **changes)
    assert not list((tmp_path / 'work').glob('*.pth'))


def test_too_few_images_for_a_batch_are_said(runs, tiny_config):
    loader = tiny_config.train_dataloader
    loader.update(batch_size=1000, drop_last=True, batch_sampler=None)
    with pytest.raises(UserError, match=r'images make no batch of 1000, .*drop_last'):
        runs.train(tiny_config)


def test_parts_of_a_data_set_may_differ_in_their_colours(
    runs, tiny_config, tmp_path, in_colours
):
    part = tiny_config.train_dataloader.dataset
    tiny_config.train_dataloader.dataset = in_colours(part)
    runner = runs.train(tiny_config)
    saved = torch.load(tmp_path / 'work' / 'epoch_1.pth', weights_only=True)
    assert tuple(saved['meta']['dataset_meta']['classes']) == tuple(
        part.metainfo.classes
    )
    assert runner.iter


def test_wrapped_data_sets_are_checked(runs, tiny_config):
    dataset = copy.deepcopy(tiny_config.train_dataloader.dataset)
    dataset.ann_file = 'annotations/nope.json'
    tiny_config.train_dataloader.dataset = dict(
        type='RepeatDataset',
        times=2,
        dataset=dict(type='ConcatDataset', datasets=[dataset]),
    )
    with pytest.raises(DataError, match=r'nope\.json'):
        runs.train(tiny_config)


def test_console_has_progress_and_results_and_the_file_has_all(
    runs, tiny_config, tmp_path, capsys
):
    tiny_config.model.backbone.norm_cfg.requires_grad = False
    tiny_config.optim_wrapper.paramwise_cfg = dict(
        custom_keys={'neck': dict(lr_mult=2)}
    )
    runner = runs.train(tiny_config)
    console = capsys.readouterr().out
    assert re.search(r'Epoch\(train\) .*eta: ', console)
    assert 'Average Precision' in console
    for noise in (
        'torch.Size',
        'System environment',
        'creating index',
        'Hooks will be',
        'paramwise_options',
        'is skipped since',
    ):
        assert noise not in console
    assert len(console.splitlines()) < 60
    (log,) = Path(runner.log_dir).glob('*.log')
    text = log.read_text()
    for detail in (
        'bbox_head.retina_cls.weight - torch.Size',
        'System environment',
        'Config:',
    ):
        assert detail in text


def test_third_party_warnings_go_to_the_file(runs, tiny_config, monkeypatch):
    shown = []
    monkeypatch.setattr(
        warnings, 'showwarning', lambda message, *rest: shown.append(message)
    )
    runner = runs.train(tiny_config, **{'train_cfg.max_epochs': 1})
    shown.clear()
    warnings.showwarning('an old name', DeprecationWarning, 'mmdet/old.py', 1)
    warnings.showwarning('mind this', UserWarning, 'focal_retinanet/new.py', 1)
    assert shown == ['mind this']
    (log,) = Path(runner.log_dir).glob('*.log')
    assert 'an old name' in log.read_text()


def test_shares_of_the_loss_are_logged(runs, tiny_config, tmp_path):
    tiny_config.default_hooks.logger.interval = 2
    runs.train(tiny_config)
    (file,) = (tmp_path / 'work').glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    names = ('pos_share', 'easy_neg_share', 'hard_neg_share')
    logged = [line for line in lines if 'pos_share' in line]
    assert len(logged) == 4  # of 8 iterations
    for line in logged:
        assert sum(line[name] for name in names) == pytest.approx(1, abs=1e-5)
        assert line['loss'] == pytest.approx(line['loss_cls'] + line['loss_bbox'])
    # With the prior pi = 0.01, no negative is hard at the start.
    assert logged[0]['hard_neg_share'] == 0
