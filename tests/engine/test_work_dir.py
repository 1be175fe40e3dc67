"""A moved or copied work directory is resumed, and no other one is changed."""

import argparse
import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.logging import MessageHub

from focal_retinanet.cli.arguments import add_run_arguments
from focal_retinanet.cli.errors import UserError
from focal_retinanet.engine.config import build_runner, load_config
from focal_retinanet.engine.work_dir import (
    check_keeps_config,
    checkpoint_dir,
    latest_checkpoint,
    make_room,
    move_noted_checkpoints,
)


def note(folder, path):
    folder.mkdir(exist_ok=True)
    (folder / 'last_checkpoint').write_text(str(path))


def test_a_new_run_takes_no_checkpoint_of_an_earlier_one(tmp_path):
    folder = tmp_path / 'run'
    make_room(folder, overwrite=False)  # there is none
    note(folder, folder / 'epoch_2.pth')
    old = [
        'epoch_1.pth',
        'epoch_2.pth',
        'best_coco_bbox_mAP_epoch_2.pth',
        'iter_90.pth',
    ]
    mine = ['imagenet.pth', 'epoch_2.onnx', 'notes_epoch_2.txt', 'my_epoch_2.pth']
    for name in old + mine:
        (folder / name).touch()
    with pytest.raises(UserError, match=r'run has .*--resume.*--work-dir.*--overwrite'):
        make_room(folder, overwrite=False)
    with pytest.raises(UserError, match=r'epoch_2\.pth is one of .* deletes'):
        make_room(folder, overwrite=True, weights=str(folder / 'epoch_2.pth'))
    assert all((folder / name).exists() for name in old + mine)
    make_room(folder, overwrite=True, weights=str(folder / 'imagenet.pth'))
    assert sorted(file.name for file in folder.iterdir()) == sorted(mine)


def test_a_best_checkpoint_alone_is_of_a_run(tmp_path):
    (tmp_path / 'best_coco_bbox_mAP_iter_400.pth').touch()
    with pytest.raises(UserError, match='has the checkpoints of a run already'):
        make_room(tmp_path, overwrite=False)
    make_room(tmp_path, overwrite=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'text',
    ["_base_ = 'base.py'\n", 'a = 1  # the reason\n', 'import os\na = 1\n', '"""a."""'],
)
def test_a_config_that_a_user_wrote_is_not_written_over(tmp_path, text, fail):
    config = tmp_path / 'mine.py'
    config.write_text(text)
    for folder in (tmp_path, f'{tmp_path}/../{tmp_path.name}'):
        with pytest.raises(UserError, match=r'is the folder of .*mine\.py, which'):
            check_keeps_config(config, folder)
    check_keeps_config(config, tmp_path / 'work')
    config.write_text('a = 1\nb = dict(c=[2])\n')  # as mmengine writes it
    check_keeps_config(config, tmp_path)
    check_keeps_config('nosuch.py', tmp_path)


def test_the_work_directory_is_not_the_configs_folder(fail, tiny_config, tmp_path):
    tiny_config.dump(tmp_path / 'base.py')
    config = tmp_path / 'mine.py'
    config.write_text("_base_ = 'base.py'")
    said = fail('tools/train.py', config, '--work-dir', tmp_path)
    assert 'mine.py, which the run would write over; name another folder' in said
    assert config.read_text() == "_base_ = 'base.py'"
    assert '--work-dir is empty' in fail('tools/train.py', config, '--work-dir', '')


def test_the_config_in_the_folder_stays_that_of_the_training(
    runs, tiny_config, tmp_path
):
    config = tmp_path / 'work' / 'tiny.py'
    tiny_config.dump(tmp_path / 'tiny.py')
    tiny_config = Config.fromfile(tmp_path / 'tiny.py')
    runs.train(tiny_config)
    trained = Config.fromfile(config)
    # Neither a test with other options nor a resumed training changes it.
    file = str(tmp_path / 'work' / 'epoch_2.pth')
    options = {'model.test_cfg.score_thr': 0.5, 'load_from': file}
    runs.build(tiny_config, **options).test()
    assert Config.fromfile(config).to_dict() == trained.to_dict()
    options = {'resume': True, 'train_cfg.max_epochs': 3, 'load_from': file}
    runs.train(tiny_config, **options)
    longer = Config.fromfile(config)
    assert longer.train_cfg.max_epochs == 3
    assert not longer.resume and longer.load_from is None
    # Without a training, it is that of the last test.
    for threshold in (0.4, 0.5):
        options = {'model.test_cfg.score_thr': threshold, 'load_from': file}
        runs.build(tiny_config, tmp_path / 'test', **options).test()
        own = Config.fromfile(tmp_path / 'test' / 'tiny.py')
        assert own.model.test_cfg.score_thr == threshold


def test_the_latest_checkpoint_is_the_one_in_the_folder(tmp_path):
    here, there = tmp_path / 'here', tmp_path / 'there'
    assert latest_checkpoint(here) is None
    note(there, there / 'epoch_2.pth')
    (there / 'epoch_2.pth').touch()
    assert latest_checkpoint(there) == str(there / 'epoch_2.pth')
    shutil.copytree(there, here)
    assert latest_checkpoint(here) == str(here / 'epoch_2.pth')
    note(here, 'C:\\runs\\mine\\epoch_2.pth')
    assert latest_checkpoint(str(here)) == str(here / 'epoch_2.pth')
    (here / 'epoch_2.pth').unlink()
    note(here, there / 'epoch_2.pth')
    with pytest.raises(UserError) as caught:
        latest_checkpoint(here)
    assert f'{here}/last_checkpoint names {there}/epoch_2.pth' in str(caught.value)
    note(here, 's3://store/epoch_2.pth')
    assert latest_checkpoint(here) == 's3://store/epoch_2.pth'


def test_the_config_of_a_copy_is_of_the_copy(tiny_config, tmp_path):
    there, here = tmp_path / 'there', tmp_path / 'here'
    note(there, there / 'epoch_2.pth')
    tiny_config.work_dir = str(there)
    tiny_config.dump(there / 'tiny.py')
    shutil.copytree(there, here)

    def work_dir(*arguments):
        parser = argparse.ArgumentParser()
        add_run_arguments(parser)
        return load_config(parser.parse_args([*map(str, arguments)])).work_dir

    assert work_dir(here / 'tiny.py') == str(here)
    assert work_dir(there / 'tiny.py') == str(there)
    assert work_dir(here / 'tiny.py', '--work-dir', there) == str(there)
    tiny_config.dump(tmp_path / 'tiny.py')  # outside of any run's folder
    assert work_dir(tmp_path / 'tiny.py') == str(there)


def test_a_folder_of_checkpoints_that_is_another_one(tmp_path):
    work, own = tmp_path / 'work', tmp_path / 'checkpoints' / 'work'
    own.mkdir(parents=True)
    (own / 'epoch_2.pth').touch()
    hooks = [CheckpointHook(), CheckpointHook(out_dir=str(tmp_path / 'checkpoints'))]
    assert checkpoint_dir(hooks[:1], str(work)) is None
    assert checkpoint_dir(hooks, str(work)) == str(own)
    note(work, tmp_path / 'moved' / 'epoch_2.pth')
    assert latest_checkpoint(work, str(own)) == str(own / 'epoch_2.pth')
    (tmp_path / 'moved').mkdir()
    (own / 'epoch_2.pth').rename(tmp_path / 'moved' / 'epoch_2.pth')
    assert latest_checkpoint(work, str(own)) == str(tmp_path / 'moved' / 'epoch_2.pth')


def test_what_is_noted_of_checkpoints_is_moved_or_forgotten(tmp_path):
    hub = MessageHub('moved')
    for name, value in {
        'last_ckpt': '/there/epoch_2.pth',
        'best_ckpt': '/there/best_a_epoch_1.pth',
        'best_ckpt_coco/bbox_mAP': '/there/best_b_epoch_1.pth',
        'best_score': 0.5,
        'best_ckpts': '/there/others.pth',
    }.items():
        hub.update_info(name, value)
    (tmp_path / 'epoch_2.pth').touch()
    (tmp_path / 'best_b_epoch_1.pth').touch()
    move_noted_checkpoints(hub, tmp_path)
    assert hub.runtime_info == {
        'last_ckpt': str(tmp_path / 'epoch_2.pth'),
        'best_ckpt_coco/bbox_mAP': str(tmp_path / 'best_b_epoch_1.pth'),
        'best_score': 0.5,
        'best_ckpts': '/there/others.pth',
    }


@pytest.fixture
def best_config(tiny_config):
    """Validate after each epoch, and keep the best checkpoint."""
    tiny_config.default_hooks.checkpoint.save_best = 'coco/bbox_mAP'
    tiny_config.default_hooks.checkpoint.rule = 'greater'
    tiny_config.train_cfg.val_interval = 1
    return tiny_config


def train_better(runner):
    """Train; the AP of the validations is 0.1, 0.2, ..."""
    build = runner.build_val_loop

    def build_val_loop(loop):
        loop = build(loop)
        evaluate = loop.evaluator.evaluate
        loop.evaluator.evaluate = lambda size: {
            **evaluate(size),
            'coco/bbox_mAP': (runner.epoch + 1) / 10,
        }
        return loop

    runner.build_val_loop = build_val_loop
    runner.train()
    return runner


def contents(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob('*')
        if file.is_file()
    }


def best_of(folder):
    return sorted(file.name for file in folder.glob('best_*'))


def test_a_copy_goes_on_by_itself(runs, best_config, tmp_path):
    original, copied = tmp_path / 'original', tmp_path / 'copied'
    train_better(runs.build(best_config, original))
    (best,) = best_of(original)
    shutil.copytree(original, copied)
    # As if the original had been trained longer.
    held = torch.load(original / 'epoch_2.pth')
    held['meta']['epoch'] = 1
    torch.save(held, original / 'epoch_2.pth')
    before = contents(original)

    best_config.train_cfg.max_epochs = 3
    runner = runs.build(best_config, copied, resume=True)
    train_better(runner)
    assert contents(original) == before
    assert f'Load checkpoint from {copied}/epoch_2.pth' in runs.log_of(runner)
    # Its own best checkpoint was replaced.
    (new,) = best_of(copied)
    assert new != best
    noted = torch.load(copied / 'epoch_3.pth')['message_hub']['runtime_info']
    assert noted['best_ckpt'] == str(copied / new)


def test_a_moved_directory_goes_on_exactly(runs, best_config, tmp_path):
    whole = train_better(runs.build(best_config, tmp_path / 'whole'))
    runs.stop_after(best_config, 5, tmp_path / 'stopped')
    (tmp_path / 'stopped').rename(tmp_path / 'moved')
    runner = runs.build(best_config, tmp_path / 'moved', resume=True)
    runs.assert_same_weights(whole, train_better(runner))
    assert not (tmp_path / 'stopped').exists()


def test_another_runs_best_checkpoint_stays(runs, best_config, tmp_path):
    train_better(runs.build(best_config, tmp_path / 'first'))
    before = contents(tmp_path / 'first')
    best_config.train_cfg.max_epochs = 3
    latest = str(tmp_path / 'first' / 'epoch_2.pth')
    second = runs.build(best_config, tmp_path / 'second', resume=True, load_from=latest)
    train_better(second)
    assert contents(tmp_path / 'first') == before
    assert len(best_of(tmp_path / 'second')) == 1


def test_checkpoints_in_a_folder_of_their_own(runs, best_config, tmp_path):
    best_config.default_hooks.checkpoint.out_dir = str(tmp_path / 'out')
    train_better(runs.build(best_config, tmp_path / 'work'))
    (before,) = best_of(tmp_path / 'out' / 'work')
    best_config.train_cfg.max_epochs = 3
    runner = train_better(runs.build(best_config, tmp_path / 'work', resume=True))
    assert runner.epoch == 3
    (after,) = best_of(tmp_path / 'out' / 'work')
    assert after != before
    assert not list((tmp_path / 'work').glob('*.pth'))


def test_without_a_checkpoint_a_run_begins(runs, tiny_config, tmp_path):
    tiny_config.train_cfg.max_epochs = 1
    first = runs.train(tiny_config, tmp_path / 'first', resume=True)
    assert first.epoch == 1
    log = runs.log_of(first)
    assert log.count('There is no checkpoint in') == 1
    assert 'Auto resumed' not in log
    # It starts from the weights that the config names.
    second = runs.build(tiny_config, tmp_path / 'second', resume=True)
    second.start_from = str(tmp_path / 'first' / 'epoch_1.pth')
    second.train()
    assert f'Load checkpoint from {second.start_from}' in runs.log_of(second)
    assert second.epoch == 1


def test_a_work_directory_below_a_file_is_refused(tiny_config, tmp_path):
    (tmp_path / 'notes').touch()
    config = tmp_path / 'tiny.py'
    tiny_config.dump(config)
    parser = argparse.ArgumentParser()
    add_run_arguments(parser)
    args = parser.parse_args([str(config), '--work-dir', str(tmp_path / 'notes' / 'a')])
    with pytest.raises(UserError, match=r'--work-dir .*notes is a file'):
        load_config(args)


@pytest.mark.parametrize(
    ('key', 'says'),
    [
        ('val_evaluator', 'has val_dataloader but no val_evaluator'),
        ('train_dataloader', 'has train_cfg but no train_dataloader'),
    ],
)
def test_settings_that_need_each_other(key, says, tiny_config):
    tiny_config[key] = None
    with pytest.raises(UserError, match=says):
        build_runner(tiny_config)
