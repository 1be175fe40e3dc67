"""Training as a whole: reproducible, resumable, fed with odd data, readable."""

import copy
import json
import re
import warnings
from pathlib import Path

import pytest
import torch

from focal_retinanet.engine.check_data import DataError
from focal_retinanet.engine.runner import Runner


def train(cfg, work_dir=None, **changes):
    cfg = copy.deepcopy(cfg)
    cfg.merge_from_dict(changes)
    if work_dir is not None:
        cfg.work_dir = str(work_dir)
    cfg.experiment_name = f'{Path(cfg.work_dir).parent.name}-{Path(cfg.work_dir).name}'
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def weights(runner):
    return runner.model.state_dict()


def assert_same_weights(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key


def test_one_seed_gives_one_result(tiny_config, tmp_path):
    first = train(tiny_config, tmp_path / 'first')
    second = train(tiny_config, tmp_path / 'second')
    other = train(tiny_config, tmp_path / 'other', **{'randomness.seed': 1})
    assert_same_weights(weights(first), weights(second))
    key = 'bbox_head.retina_cls.weight'
    assert not torch.equal(weights(first)[key], weights(other)[key])


def test_resume_gives_the_weights_of_an_uninterrupted_run(tiny_config, tmp_path):
    whole = train(tiny_config, tmp_path / 'whole')

    class Interruption(Exception):
        pass

    interrupted = copy.deepcopy(tiny_config)
    interrupted.work_dir = str(tmp_path / 'interrupted')
    runner = Runner.from_cfg(interrupted)
    step = runner.model.train_step
    calls = 0

    def train_step(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls > 4:  # the second epoch has begun
            raise Interruption
        return step(*args, **kwargs)

    runner.model.train_step = train_step
    with pytest.raises(Interruption):
        runner.train()
    assert (tmp_path / 'interrupted' / 'epoch_1.pth').exists()

    resumed = train(tiny_config, tmp_path / 'interrupted', resume=True)
    assert_same_weights(weights(whole), weights(resumed))


def test_checkpoint_of_training_tests(tiny_config, tmp_path):
    trained = train(tiny_config)
    cfg = copy.deepcopy(tiny_config)
    cfg.load_from = str(tmp_path / 'work' / 'epoch_2.pth')
    tester = Runner.from_cfg(cfg)
    metrics = tester.test()
    assert 0 <= metrics['coco/bbox_mAP'] <= 1
    assert_same_weights(weights(trained), weights(tester))


def test_detections_are_kept_next_to_the_log(tiny_config, tmp_path):
    tester = train(tiny_config)
    assert tester.test()
    for name in ('val', 'test'):
        (file,) = (tmp_path / 'work').glob(f'*/{name}_detections.bbox.json')
        assert json.loads(file.read_text())[0].keys() >= {'image_id', 'score', 'bbox'}
    chosen = str(tmp_path / 'mine')
    tester = train(
        tiny_config, tmp_path / 'other', **{'val_evaluator.outfile_prefix': chosen}
    )
    assert Path(f'{chosen}.bbox.json').exists()
    assert not list((tmp_path / 'other').glob('*/val_detections*'))


def test_validation_draws_where_it_is_asked_to(tiny_config, tmp_path):
    train(tiny_config, **{'default_hooks.visualization': dict(draw=True, interval=1)})
    (picture,) = (tmp_path / 'work').glob('*/vis_data/vis_image/val_img_*.png')
    assert picture.stat().st_size > 10_000


def test_images_without_objects_train_and_test(tiny_config, shapes_root, tmp_path):
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
        'val_evaluator.ann_file': str(tmp_path / 'val.json'),
        'train_dataloader.batch_size': 2,
    }
    runner = train(tiny_config, **changes)
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
    tiny_config, tmp_path, changes, says
):
    with pytest.raises(DataError, match=says):
        train(tiny_config, **changes)
    assert not list((tmp_path / 'work').glob('*.pth'))


def test_wrapped_data_sets_are_checked(tiny_config):
    dataset = copy.deepcopy(tiny_config.train_dataloader.dataset)
    dataset.ann_file = 'annotations/nope.json'
    tiny_config.train_dataloader.dataset = dict(
        type='RepeatDataset',
        times=2,
        dataset=dict(type='ConcatDataset', datasets=[dataset]),
    )
    with pytest.raises(DataError, match=r'nope\.json'):
        train(tiny_config)


def test_console_has_progress_and_results_and_the_file_has_all(
    tiny_config, tmp_path, capsys
):
    tiny_config.model.backbone.norm_cfg.requires_grad = False
    tiny_config.optim_wrapper.paramwise_cfg = dict(
        custom_keys={'neck': dict(lr_mult=2)}
    )
    runner = train(tiny_config)
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


def test_third_party_warnings_go_to_the_file(tiny_config, monkeypatch):
    shown = []
    monkeypatch.setattr(
        warnings, 'showwarning', lambda message, *rest: shown.append(message)
    )
    runner = train(tiny_config, **{'train_cfg.max_epochs': 1})
    shown.clear()
    warnings.showwarning('an old name', DeprecationWarning, 'mmdet/old.py', 1)
    warnings.showwarning('mind this', UserWarning, 'focal_retinanet/new.py', 1)
    assert shown == ['mind this']
    (log,) = Path(runner.log_dir).glob('*.log')
    assert 'an old name' in log.read_text()


def test_shares_of_the_loss_are_logged(tiny_config, tmp_path):
    tiny_config.default_hooks.logger.interval = 2
    train(tiny_config)
    (file,) = (tmp_path / 'work').glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    names = ('pos_share', 'easy_neg_share', 'hard_neg_share')
    logged = [line for line in lines if 'pos_share' in line]
    assert len(logged) == 4  # of 8 iterations
    for line in logged:
        assert sum(line[name] for name in names) == pytest.approx(1, abs=1e-5)
        assert line['loss'] == pytest.approx(line['loss_cls'] + line['loss_bbox'])
    # With the prior of pi = 0.01 no negative is hard at the start.
    assert logged[0]['hard_neg_share'] == 0
