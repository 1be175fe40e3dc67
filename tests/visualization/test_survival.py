"""The figure of which runs diverge, and the flag that draws it."""

import json
from pathlib import Path

import numpy as np
import pytest

from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.training_log import (
    ModelLogs,
    TrainingLog,
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
        ('x', ce, 20),
        ('x', fl, 10),
    ]
    # Beside each other, and nearest to their own learning rate.
    places = [x for _, _, x, _ in found]
    assert len(set(places)) == 4
    assert np.allclose(places, [0.001, 0.001, 0.01, 0.01], rtol=0.2)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == [
        'ce (1 of 3 diverged)',
        'fl (1 of 1 diverged)',
        'diverged',
        'did not diverge',
    ]
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ['0.001', '0.01']


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
