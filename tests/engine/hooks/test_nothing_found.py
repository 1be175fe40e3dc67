"""Validations and tests that find nothing say why."""

import pytest
import torch


@pytest.fixture
def config(tiny_config):
    tiny_config.train_cfg.update(max_epochs=2, val_interval=1)
    tiny_config.fold_batch_norm = tiny_config.winograd = False
    return tiny_config


def causes_in(log):
    """The warnings of a log that name causes, a list of lines each."""
    parts = log.split('Likely causes:\n')[1:]
    return [
        [line for line in part.splitlines()[:8] if line.startswith('  - ')]
        for part in parts
    ]


def test_no_score_reaches_the_threshold(runs, config):
    config.model.test_cfg.score_thr = 0.9
    config.auto_scale_lr = dict(enable=False, base_batch_size=64)
    runner = runs.train(config)
    log = runs.log_of(runner)
    assert log.count('Nothing is found (AP50 0.0)') == 1  # not again by the second
    (causes,) = causes_in(log)
    assert 'the highest score in 4 images is 0.0' in causes[0]
    assert causes[0].endswith('and model.test_cfg.score_thr is 0.9')
    assert 'is for 64 images an iteration, and this run has 4' in causes[1]
    assert causes[-1].startswith('  - the warm-up of the learning rate lasts')
    # The AP is a number, 0, and mmdet's error is not there.
    assert 'is empty' not in log and 'coco/bbox_mAP: 0.0000' in log
    assert runner.model.bbox_head.test_cfg.score_thr == 0.9


def test_broken_weights_of_a_test(runs, config, tmp_path):
    runner = runs.build(config)
    weights = runner.model.state_dict()
    weights['neck.fpn_convs.0.conv.bias'][:] = float('nan')
    torch.save(weights, tmp_path / 'broken.pth')
    config.model.test_cfg.score_thr = 0.05
    tested = runs.build(config, load_from=str(tmp_path / 'broken.pth'))
    assert tested.test()['coco/bbox_mAP'] == 0
    (causes,) = causes_in(runs.log_of(tested))
    assert len(causes) == 1
    assert (
        'weights are NaN or infinite, such as neck.fpn_convs.0.conv.bias' in causes[0]
    )
