"""The best checkpoint is kept and named, or it is said why not."""

import re

import pytest
import torch


@pytest.fixture
def config(tiny_config):
    tiny_config.train_cfg.update(max_epochs=2, val_interval=1)
    tiny_config.fold_batch_norm = tiny_config.winograd = False
    return tiny_config


def test_the_end_of_a_training_names_it(runs, config, tmp_path):
    runner = runs.train(config)
    log = runs.log_of(runner)
    (best,) = (tmp_path / 'work').glob('best_coco_bbox_mAP_epoch_*.pth')
    epoch = re.search(r'epoch_(\d)', best.name)[1]
    assert f'Best checkpoint: {best} (epoch {epoch})' in log
    scores = [line for line in runs.scalars_of(runner) if 'coco/bbox_mAP' in line]
    row = log.partition('Best checkpoint')[2].splitlines()[1:4]
    names = row[0].replace('|', ' ').split()
    assert names == ['AP', 'AP50', 'AP75', 'APs', 'APm', 'APl']
    numbers = row[2].replace('|', ' ').split()
    best_ap = max(line['coco/bbox_mAP'] for line in scores)
    assert numbers[0] == f'{100 * best_ap:.1f}'
    assert numbers[-1] == '-'  # the data have no large object
    written = tmp_path / 'work' / 'retinanet_r18-slim_fpn_8e_shapes.py'
    assert f'python tools/test.py {written} {best} --show-dir' in log
    held = torch.load(best, weights_only=True)
    assert held['meta']['epoch'] == int(epoch)


def test_a_metric_that_no_evaluator_has(runs, config, tmp_path):
    config.default_hooks.checkpoint.save_best = 'voc/mAP'
    log = runs.log_of(runs.train(config))
    assert log.count('as the best one: there is no voc/mAP among coco/') == 1
    assert not list((tmp_path / 'work').glob('best_*'))


def test_a_validation_alone(runs, config):
    runner = runs.build(config)
    assert runner.val()['coco/bbox_mAP'] < 0.1
