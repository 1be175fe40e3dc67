"""Training logs: resumed ones are joined, validations are placed, bad ones named."""

import json

import numpy as np
import pytest

from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.training_log import (
    find_training_logs,
    read_training_log,
    seconds_of_training,
)

NAN = float('nan')


def train(step, loss=1.0, time=2.0, **more):
    return dict(lr=0.1, data_time=0.0, loss=loss, time=time, step=step, **more)


def validate(step, ap):
    return {'coco/bbox_mAP': ap, 'data_time': 0.0, 'time': 9.0, 'step': step}


def write(work_dir, lines, timestamp='20260101_000000', window=None):
    folder = work_dir / timestamp / 'vis_data'
    folder.mkdir(parents=True)
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    (folder / 'scalars.json').write_text(text)
    if window is not None:
        config = f'log_processor = dict(window_size={window})\n'
        (folder / 'config.py').write_text(config)
    return work_dir


def test_by_epochs_a_validation_is_at_the_last_iteration_of_its_epoch(tmp_path):
    lines = [
        *(train(10, 4.0, epoch=1), train(20, 3.0, epoch=1), validate(1, 0.1)),
        *(train(35, 2.0, epoch=2), train(45, 1.0, epoch=2), validate(2, 0.3)),
    ]
    log = read_training_log(write(tmp_path, lines))
    assert log.iterations.tolist() == [10, 20, 35, 45]
    assert log.training['loss'].tolist() == [4, 3, 2, 1]
    assert log.validated.tolist() == [25, 50]
    assert log.validation['coco/bbox_mAP'].tolist() == [0.1, 0.3]
    # The time of a validation does not count.
    iterations, seconds, ap = log.curve('AP')
    assert (iterations.tolist(), seconds.tolist()) == ([25, 50], [50, 100])
    assert ap.tolist() == [0.1, 0.3]
    assert log.keys.count('loss') == 1 and 'epoch' not in log.keys
    assert log.diverged_at is None


def test_the_end_of_an_epoch_need_not_be_logged(tmp_path):
    """Of 99 iterations an epoch, the 50th is logged."""
    lines = []
    for epoch in range(1, 5):
        lines += [train(99 * (epoch - 1) + 50, epoch=epoch), validate(epoch, 0.1)]
    log = read_training_log(write(tmp_path / 'run', lines))
    assert log.validated.tolist() == [99, 198, 297, 396]
    assert log.curve('AP')[1].tolist() == [198, 396, 594, 792]
    # One epoch does not say how long it is, and neither do epochs that differ.
    log = read_training_log(write(tmp_path / 'short', lines[:2]))
    assert log.validated.tolist() == [50]
    lines[4]['step'] += 10
    log = read_training_log(write(tmp_path / 'mixed', lines[:6]))
    assert log.validated.tolist() == [50, 149, 258]


def test_by_iterations_a_validation_is_at_its_own(tmp_path):
    lines = [train(50), train(100), validate(120, 0.2), train(150)]
    log = read_training_log(write(tmp_path, lines))
    assert log.validated.tolist() == [120]
    assert log.curve('AP')[1].tolist() == [240]
    # LoggerHook may count epochs, of which there are none.
    log = read_training_log(write(tmp_path / '0', [train(50), validate(0, 0.2)]))
    assert log.validated.tolist() == [50]


def test_a_resumed_run_is_one_and_what_was_done_again_counts_once(tmp_path):
    first = [
        *(train(10, 5.0, epoch=1), validate(1, 0.1)),
        *(train(20, 4.0, epoch=2), validate(2, 0.2), train(30, 99.0, epoch=3)),
    ]
    # Resumed after epoch 1, faster, and shorter so far.
    second = [train(20, 3.0, time=1.0, epoch=2), validate(2, 0.25)]
    write(tmp_path, second, '20260102_000000')
    log = read_training_log(write(tmp_path, first))
    assert log.iterations.tolist() == [10, 20]
    assert log.training['loss'].tolist() == [5, 3]
    assert log.validated.tolist() == [10, 20]
    assert log.validation['coco/bbox_mAP'].tolist() == [0.1, 0.25]
    assert log.seconds.tolist() == [20, 30]


def test_seconds_of_windows_that_overlap_are_exact():
    """Iterations take 1 s for 50 iterations, then 0.1 s; the window is 50."""
    each = np.where(np.arange(200) < 50, 1.0, 0.1)
    iterations = np.arange(10, 201, 10)
    times = np.array([each[max(i - 50, 0) : i].mean() for i in iterations])
    seconds = seconds_of_training(iterations, times, 50)
    np.testing.assert_allclose(seconds, [each[:i].sum() for i in iterations])
    # The sum of times by distances would count 18 of 65 seconds twice.
    assert np.sum(times * 10) == pytest.approx(seconds[-1] + 18, abs=1)


def test_seconds_of_windows_with_gaps():
    seconds = seconds_of_training(np.array([50, 100]), np.array([2.0, 1.0]), 10)
    assert seconds.tolist() == [100, 150]
    assert np.isnan(seconds_of_training(np.array([5]), np.array([NAN]), 10)).all()


def test_the_window_is_that_of_the_config(tmp_path):
    lines = [train(10, time=7.0), train(20, time=4.0)]  # the second ten take 1 s each
    assert read_training_log(write(tmp_path / 'a', lines)).seconds.tolist() == [70, 110]
    log = read_training_log(write(tmp_path / 'b', lines, window=50))
    assert log.seconds.tolist() == [70, 80]


def test_a_curve_ends_where_the_loss_is_nan_for_good(tmp_path):
    lines = [
        *(train(10, 3.0), train(20, NAN), train(30, 2.0), validate(30, 0.2)),
        *(train(40, float('inf')), train(50, NAN), validate(50, 0.0)),
    ]
    log = read_training_log(write(tmp_path, lines))
    assert log.diverged_at == 40  # not 20, since the loss recovers
    for key in ('loss', 'lr'):
        assert log.curve(key)[0].tolist() == [10, 20, 30]
    assert log.curve('AP')[2].tolist() == [0.2]
    log = read_training_log(write(tmp_path / 'all', [train(10, NAN), train(20, NAN)]))
    assert log.diverged_at == 10
    assert all(len(part) == 0 for part in log.curve('loss'))


def test_a_key_of_some_lines_and_one_of_none(tmp_path):
    lines = [train(10), train(20, grad_norm=4.0)]
    log = read_training_log(write(tmp_path, lines))
    np.testing.assert_equal(log.curve('grad_norm')[2], [NAN, 4.0])
    with pytest.raises(KeyError):
        log.curve('AP')


def test_a_run_that_is_being_written(tmp_path):
    write(tmp_path, [train(10), train(20)])
    (file,) = tmp_path.glob('*/vis_data/*')
    file.write_text(file.read_text()[:-20])
    assert read_training_log(tmp_path).iterations.tolist() == [10]
    assert read_training_log(file).iterations.tolist() == [10]


@pytest.mark.parametrize(
    'text, message',
    [
        (None, 'no log'),
        ('', 'its log is empty'),
        ('{"loss": 1}\n{"loss": 2}\n', 'line 1, is not part of a log'),
        ('oops\n{"step": 1}\n', 'line 1, is not JSON'),
        ('{"step": 1, "done": true}\n', 'its log is empty'),
    ],
)
def test_bad_logs_are_named(tmp_path, text, message):
    write(tmp_path / 'bad', [])
    (file,) = tmp_path.glob('bad/*/vis_data/*')
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_training_log(tmp_path / 'bad')
    assert str(tmp_path / 'bad') in str(error.value)

    write(tmp_path / 'good', [train(10)])
    models, left_out = find_training_logs([tmp_path / 'bad', tmp_path / 'good'])
    assert [model.name for model in models] == ['good']
    assert len(left_out) == 1 and message in left_out[0]


def test_seeds_are_one_model_and_equal_names_are_told_apart(tmp_path):
    for seed in (10, 2):
        write(tmp_path / 'x' / 'run' / f'seed-{seed}', [train(10, float(seed))])
    write(tmp_path / 'y' / 'run', [train(10)])
    paths = [tmp_path / 'x' / 'run', tmp_path / 'y' / 'run']
    models, left_out = find_training_logs(paths)
    assert [model.name for model in models] == [str(path) for path in paths]
    losses = [log.training['loss'][0] for log in models[0].logs]
    assert losses == [2, 10] and left_out == []


def test_nothing_to_plot(tmp_path):
    with pytest.raises(UserError, match='nothing to plot'):
        find_training_logs([tmp_path])
    with pytest.raises(FileNotFoundError, match='gone'):
        find_training_logs([tmp_path / 'gone'])
