"""A run that was stopped in a validation makes up for it when it is resumed."""

import json
from types import SimpleNamespace

import pytest
from mmengine.runner import EpochBasedTrainLoop

from focal_retinanet.engine.hooks.missed_validation import _is_due, _is_logged

SAYS = 'The checkpoint has no record of its validation: it is validated now'


@pytest.mark.parametrize('epoch', [1, 2])
def test_a_missed_validation_is_made_up_for(runs, tiny_config, tmp_path, epoch):
    cfg = tiny_config
    cfg.train_cfg.update(max_epochs=2, val_interval=1)
    runs.stop_in_validation(cfg, epoch, tmp_path)
    before = set(tmp_path.glob('best_*'))
    resumed = runs.train(cfg, tmp_path, resume=True)
    assert runs.log_of(resumed).count(SAYS) == 1
    scalars = (tmp_path / resumed.timestamp / 'vis_data' / 'scalars.json').read_text()
    logged = [json.loads(line) for line in scalars.splitlines()]
    validated = [line['step'] for line in logged if 'coco/bbox_mAP' in line]
    assert validated == list(range(epoch, 3))
    assert before or list(tmp_path.glob('best_*'))
    # Now all of them are done.
    again = runs.train(cfg, tmp_path, resume=True)
    assert SAYS not in runs.log_of(again)


def train(step, **more):
    return dict(step=step, lr=0.1, loss=1.0, **more)


@pytest.mark.parametrize(
    ('logs', 'epoch', 'is_logged'),
    [
        ([], 1, False),
        ([[train(5)]], 1, False),
        ([[train(5), dict(step=1, mAP=0.1)]], 1, True),
        ([[train(5), dict(step=1, mAP=0.1), train(10)]], 1, True),
        ([[train(5), dict(step=1, mAP=0.1), train(10)]], 2, False),
        # Resumed from an earlier checkpoint, or overwritten.
        ([[train(5), dict(step=1, mAP=0.1)], [train(3)]], 1, False),
        ([[train(5), dict(step=1, mAP=0.1)], [train(3), dict(step=1, mAP=0)]], 1, True),
        # In the log of iterations, 1 would be the first epoch's validation.
        ([[dict(step=5, mAP=0.1)]], 1, False),
    ],
)
def test_what_the_logs_tell(tmp_path, logs, epoch, is_logged):
    for number, lines in enumerate(logs):
        file = tmp_path / f'20261126_00000{number}' / 'vis_data' / 'scalars.json'
        file.parent.mkdir(parents=True)
        file.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop)
    vars(loop).update(_iter=5 * epoch, _epoch=epoch)
    assert _is_logged(tmp_path, loop) == is_logged


@pytest.mark.parametrize(
    ('done', 'begin', 'is_due'),
    [(0, 1, False), (2, 1, False), (3, 1, True), (6, 7, False), (8, 1, True)],
)
def test_when_a_validation_is_due(done, begin, is_due):
    loop = SimpleNamespace(iter=done, max_iters=8, val_interval=3, val_begin=begin)
    assert _is_due(loop) == is_due
    # The same in epochs of 5 iterations, and within one of them.
    by_epochs = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop)
    vars(by_epochs).update(
        _iter=5 * done,
        _epoch=done,
        _max_epochs=8,
        _max_iters=40,
        val_interval=3,
        val_begin=begin,
        dataloader=range(5),
    )
    assert _is_due(by_epochs) == is_due
    by_epochs._iter += 1
    assert not _is_due(by_epochs)
