"""Figures of training curves: their lines, and the notes on missing ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.training_log import ModelLogs, TrainingLog
from focal_retinanet.visualization import style
from focal_retinanet.visualization.curve_points import mean_of_seeds, smoothed
from focal_retinanet.visualization.curves import default_keys, draw_curves

NAN = float('nan')


def run(loss, ap=(), seconds_each=1.0, path='run', lr=0.1):
    """A log of every 10th iteration, with validations at the last ones."""
    iterations = 10 * np.arange(1, len(loss) + 1)
    return TrainingLog(
        Path(path),
        iterations,
        iterations * seconds_each,
        dict(lr=np.full(len(loss), lr), loss=np.array(loss, float)),
        iterations[len(loss) - len(ap) :],
        {'coco/bbox_mAP': np.array(ap, float)} if ap else {},
    )


def model(name, *logs):
    return ModelLogs(name, logs)


@pytest.fixture
def draw(monkeypatch, tmp_path):
    """Function that draws curves; returns the figure and the notes."""

    def draw(*args, **kwargs):
        figures = []
        monkeypatch.setattr(style, 'save_figure', lambda f, _: figures.append(f))
        notes = draw_curves(args, tmp_path / 'out.png', **kwargs)
        (figure,) = figures
        return figure, notes

    return draw


def points(line):
    return line.get_xdata().tolist(), line.get_ydata().tolist()


def names(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_smoothed():
    values = np.array([3.0, 0, 3, 6])
    assert smoothed(values, 1).tolist() == [3, 0, 3, 6]
    assert smoothed(values, 3).tolist() == [1.5, 2, 3, 4.5]
    assert smoothed(values, 2).tolist() == [1.5, 1.5, 4.5, 6]
    assert smoothed(values, 99).tolist() == [3, 3, 3, 3]


def test_mean_of_seeds_at_the_iterations_that_all_have():
    first = np.array([10, 20, 30]), np.array([1.0, 2, 3]), np.array([4.0, 2, 0])
    # Logged at other iterations, at half the speed, shorter so far.
    second = np.array([5, 25]), np.array([1.0, 5]), np.array([0.0, 4])
    mean = mean_of_seeds([first, second])
    assert mean.x.tolist() == [1.5, 3]
    assert mean.y.tolist() == [2.5, 2.5]
    assert (mean.low.tolist(), mean.high.tolist()) == ([1, 2], [4, 3])


def test_panels_lines_and_names(draw):
    a = model('a', run([3, 2, 1], ap=[0.25]))
    b = model('b', run([5, 4], lr=0.2))
    figure, notes = draw(a, b, title='both')
    assert default_keys([a, b]) == ['loss', 'lr', 'AP']
    loss, lr, ap = figure.axes
    titles = [axes.get_title(loc='left') for axes in figure.axes]
    assert titles == ['loss', 'learning rate', 'AP (%)']
    assert [points(line) for line in loss.lines] == [
        ([10, 20, 30], [3, 2, 1]),
        ([10, 20], [5, 4]),
    ]
    assert [line.get_ydata()[0] for line in lr.lines] == [0.1, 0.2]
    assert points(ap.lines[0]) == ([30], [25])  # in percent; a marker makes it visible
    assert ap.lines[0].get_marker() == 'o'
    assert loss.get_xlim() == ap.get_xlim()
    assert names(figure) == ['a', 'b']
    assert loss.get_xlabel() == 'iterations'
    assert figure.get_suptitle() == 'both'
    assert notes == [
        'b has no AP in its log: not validated yet, or no object was found'
    ]


def test_a_name_that_begins_with_an_underscore_is_in_the_legend(draw):
    figure, _ = draw(model('_old', run([2, 1])), model('b', run([5, 4])))
    assert [name.lstrip('\u200b') for name in names(figure)] == ['_old', 'b']


def test_time_in_the_unit_that_suits(draw):
    for each, unit, x in ((360, 'hours', 2), (60, 'minutes', 20), (1, 'seconds', 20)):
        figure, _ = draw(model('a', run([2, 1], seconds_each=each)), x='time')
        assert figure.axes[0].get_xlabel() == f'{unit} of training, without validation'
        assert figure.axes[0].lines[0].get_xdata()[-1] == x


def test_losses_alone_are_smoothed_and_it_is_said(draw):
    figure, _ = draw(model('a', run([3, 0, 3], ap=[0.1, 0.4, 0.1])), smooth=3)
    loss, _, ap = figure.axes
    assert loss.lines[0].get_ydata().tolist() == [1.5, 2, 1.5]
    assert loss.get_title(loc='left') == 'loss, mean of 3 logged'
    assert ap.lines[0].get_ydata().tolist() == [10, 40, 10]


def test_seeds_are_a_mean_and_a_band(draw):
    seeds = [run([4, 2], path='s0'), run([2, 1], path='s1'), run([3, 0, 9], path='s2')]
    figure, notes = draw(model('a', *seeds), keys=['loss'])
    (axes,) = figure.axes
    assert points(axes.lines[0]) == ([10, 20], [3, 1])
    (band,) = axes.collections
    low, high = band.get_paths()[0].get_extents().get_points()[:, 1]
    assert (low, high) == (0, 4)
    assert names(figure) == ['a (3 seeds)', 'lowest to highest seed']
    assert notes == ['a: the mean of its seeds ends at iteration 20, as s0 does']


def test_a_diverged_run_ends_with_a_cross(draw):
    figure, notes = draw(
        model('fine', run([3, 2, 1])),
        model('lost', run([4, 5, NAN], path='l')),
        model('never', run([NAN, NAN], path='n')),
        keys=['loss'],
    )
    fine, lost, cross = figure.axes[0].lines
    assert points(fine) == ([10, 20, 30], [3, 2, 1])
    assert points(lost) == ([10, 20], [4, 5])
    assert points(cross) == ([20], [5]) and cross.get_marker() == 'x'
    assert cross.get_color() == lost.get_color() != fine.get_color()
    assert names(figure) == [
        *('fine', 'lost', 'never (diverged at once)'),
        'diverged (loss not finite)',
    ]
    assert [note.partition(' diverged')[0] for note in notes] == ['l', 'n']
    assert 'from iteration 30 on' in notes[0]


def test_a_diverged_seed_is_not_in_the_mean(draw):
    seeds = run([4, 2]), run([2, 2]), run([9, NAN])
    figure, _ = draw(model('a', *seeds), keys=['loss'])
    mean, lost, _ = figure.axes[0].lines
    assert points(mean) == ([10, 20], [3, 2])
    assert points(lost) == ([10], [9])
    assert lost.get_linewidth() < mean.get_linewidth()
    assert 'a (3 seeds, 1 diverged)' in names(figure)


def test_a_loss_that_is_nan_for_a_while(draw):
    figure, notes = draw(model('a', run([3, NAN, 1])), keys=['loss'])
    assert points(figure.axes[0].lines[0]) == ([10, 30], [3, 1])
    assert '1 of 3 logged losses' in notes[0]


def test_equal_curves_are_one_line_that_says_so(draw):
    figure, _ = draw(model('a', run([2, 1])), model('b', run([3, 1])))
    loss, lr = figure.axes
    assert len(loss.lines) == 2 and len(lr.lines) == 1
    assert lr.get_title(loc='left') == 'learning rate, the same for all'


def test_orders_of_magnitude_get_a_logarithmic_axis(draw):
    scales = [
        draw(model('a', run(loss)), keys=['loss'])[0].axes[0].get_yscale()
        for loss in ([1000, 1], [50, 1], [1000, 0])
    ]
    assert scales == ['log', 'linear', 'linear']


def test_coco_has_minus_one_for_what_is_not_there(draw):
    figure, notes = draw(model('a', run([2, 1], ap=[-1, 0.5])), keys=['AP'])
    assert points(figure.axes[0].lines[0]) == ([20], [50])
    assert notes == []


def test_the_data_set_is_the_same_for_all_runs(draw):
    def with_data(**aps):
        log = run([2, 1], ap=[0.0])
        validation = {f'{k}/bbox_mAP': np.array([v]) for k, v in aps.items()}
        return replace(log, validation=validation)

    a, b = with_data(old=0.1, new=0.2), with_data(new=0.3, old=0.4)
    figure, notes = draw(model('a', a), model('b', b), keys=['AP'])
    (axes,) = figure.axes
    assert [line.get_ydata()[0] for line in axes.lines] == [10, 40]
    assert notes == ['AP is old/bbox_mAP; there is new/bbox_mAP, too']
    # The data set that all have, though it is not the first one.
    figure, notes = draw(model('a', a), model('b', with_data(new=0.3)), keys=['AP'])
    assert [line.get_ydata()[0] for line in figure.axes[0].lines] == [20, 30]
    assert notes == ['AP is new/bbox_mAP; there is old/bbox_mAP, too']
    _, notes = draw(model('a', a), model('b', with_data(x=0.3)), keys=['AP'])
    assert 'no data set is common to all' in notes[0]
    # A key with its data set is meant as it is.
    figure, notes = draw(model('a', a), model('b', b), keys=['new/bbox_mAP'])
    assert [line.get_ydata()[0] for line in figure.axes[0].lines] == [20, 30]
    assert notes == []


def test_all_lines_differ_up_to_the_number_that_can(draw):
    models = [model(f'm{i}', run([i + 2, 1])) for i in range(24)]
    figure, _ = draw(*models, keys=['loss'])
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == 24
    with pytest.raises(UserError, match='25 models are too many'):
        draw(*models, model('more', run([1, 1])))


def test_an_unknown_key_says_which_there_are(draw):
    with pytest.raises(UserError, match='no log has the key los; there are lr, loss'):
        draw(model('a', run([2, 1])), keys=['los'])
