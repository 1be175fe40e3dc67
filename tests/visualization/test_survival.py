"""The figure of which runs diverge, and the flag that draws it."""

import json
from pathlib import Path

import numpy as np
import pytest

from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.training_log import (
    ModelLogs,
    TrainingLog,
    find_training_logs,
    read_training_log,
)
from focal_retinanet.visualization import style
from focal_retinanet.visualization.survival import draw_survival

NAN = float('nan')


def run(path, lr, loss):
    iterations = 10 * np.arange(1, len(loss) + 1)
    losses = dict(loss=np.array(loss, float))
    return TrainingLog(
        Path(path), iterations, iterations * 1.0, losses, np.zeros(0, int), {}, lr
    )


@pytest.fixture
def draw(monkeypatch, tmp_path):
    """Function that draws models; returns the figure and the notes."""

    def draw(*models):
        figures = []
        monkeypatch.setattr(style, 'save_figure', lambda f, _: figures.append(f))
        notes = draw_survival(models, tmp_path / 'out.png')
        return figures[0], notes

    return draw


def marks(figure):
    """Marker, colour, learning rate and iteration of each run."""
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata())]
    return [
        (line.get_marker(), line.get_color(), line.get_xdata()[0], line.get_ydata()[0])
        for line in lines
    ]


def test_a_mark_for_each_run(draw):
    low = ModelLogs(
        'lr-low/ce',
        [
            run('lr-low/ce/seed-0', 0.001, [2, 1]),
            run('lr-low/ce/seed-1', 0.001, [2, 1]),
        ],
    )
    high = ModelLogs('lr-high/ce', [run('lr-high/ce/seed-0', 0.01, [9, NAN, NAN])])
    other = ModelLogs('fl', [run('fl', 0.01, [NAN])])
    figure, notes = draw(low, high, other)
    assert notes == []
    found = marks(figure)
    ce, fl = style.COLORS[:2]
    assert [(shape, color, y) for shape, color, _, y in found] == [
        ('o', ce, 20),
        ('o', ce, 20),
        ('o', ce, 20),
        ('x', '#555555', 20),
        ('o', fl, 10),
        ('x', '#555555', 10),
    ]
    # Beside each other, and nearest to their own learning rate.
    places = [x for _, _, x, _ in found]
    assert len(set(places)) == 4
    assert np.allclose(places, [0.001, 0.001, *[0.01] * 4], rtol=0.2)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == [
        'ce (1 of 3 diverged)',
        'fl (1 of 1 diverged)',
        'diverged',
        'did not diverge',
    ]
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ['0.001', '0.01']


def test_many_models_stay_at_their_own_learning_rate(draw):
    rates = [0.01, 0.02, 0.04]
    runs = [
        (f'm{index}', rate, NAN if index % 2 else 1.0)
        for index in range(9)
        for rate in rates
    ]
    figure, _ = draw(
        *(ModelLogs(name, [run(name, rate, [loss])]) for name, rate, loss in runs)
    )
    found = marks(figure)
    models = [mark for mark in found if mark[0] != 'x']
    assert len(models) == len(runs) == len({x for _, _, x, _ in models})
    for (_, _, x, _), (_, rate, _) in zip(models, runs, strict=True):
        assert min(rates, key=lambda tick: abs(np.log(x / tick))) == rate
    # A diverged run has the marker of its model, so that repeated colours differ.
    looks = {(shape, color) for shape, color, _, _ in models}
    assert len(looks) == 9
    crosses = [mark[2:] for mark in found if mark[0] == 'x']
    assert crosses == [mark[2:] for mark in models if mark[2:] in crosses]
    assert len(crosses) == 4 * len(rates)


def test_a_name_that_begins_with_an_underscore_is_in_the_legend(draw):
    figure, _ = draw(ModelLogs('_old', [run('_old', 0.01, [1])]))
    assert '_old (0 of 1 diverged)' in figure.legends[0].get_texts()[0].get_text()
    assert len(figure.legends[0].get_texts()) == 3


def test_files_of_scalars_are_models_of_their_own(draw, tmp_path):
    def write(file):
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(dict(loss=1.0, step=10)) + '\n')
        (file.parent / 'config.py').write_text(
            'optim_wrapper = dict(optimizer=dict(lr=0.01))'
        )
        return file

    log = 'seed-0/20260101_000000/vis_data/scalars.json'
    in_work_dirs = [write(tmp_path / name / log) for name in 'ab']
    elsewhere = [write(tmp_path / name / 'mine.json') for name in 'cd']
    models, _ = find_training_logs([*in_work_dirs, *elsewhere])
    figure, _ = draw(*models)
    names = [text.get_text() for text in figure.legends[0].get_texts()[:-2]]
    assert names == [
        f'{name} (0 of 1 diverged)' for name in ('a', 'b', *map(str, elsewhere))
    ]


def test_runs_without_a_learning_rate_are_named(draw):
    known = ModelLogs('ce', [run('ce', 0.1, [1])])
    figure, notes = draw(ModelLogs('old', [run('old', None, [1])]), known)
    assert notes == ['left out old: no config that names its learning rate']
    assert len(marks(figure)) == 1
    with pytest.raises(UserError, match='no run to draw\nleft out old'):
        draw(ModelLogs('old', [run('old', None, [1])]))


def test_the_learning_rate_is_that_of_the_config(tmp_path):
    folder = tmp_path / '20260101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    # Warm-up is at a tenth of it.
    (folder / 'scalars.json').write_text(json.dumps(dict(lr=0.001, loss=1.0, step=10)))
    assert read_training_log(tmp_path).learning_rate is None
    (folder / 'config.py').write_text('optim_wrapper = dict(optimizer=dict(lr=0.01))')
    assert read_training_log(tmp_path).learning_rate == 0.01
