"""The figure of differences in AP, and the tool that draws it."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from focal_retinanet.cli.errors import UserError
from focal_retinanet.visualization import style
from focal_retinanet.visualization.differences import draw_differences, read_differences

ROOT = Path(__file__).parents[2]


def gap(model, ap, low, high, reference='fl'):
    return dict(model=model, reference=reference, AP=ap, low=low, high=high)


@pytest.fixture
def draw(monkeypatch, tmp_path):
    """Function that draws differences and returns the axes."""

    def draw(*args, **kwargs):
        figures = []
        monkeypatch.setattr(style, 'save_figure', lambda f, _: figures.append(f))
        draw_differences(*args, file=tmp_path / 'out.png', **kwargs)
        return figures[0].axes[0]

    return draw


def lines(axes):
    """The line of each model; the caps of the intervals have no label."""
    return [line for line in axes.lines if not line.get_label().startswith('_')]


def points(axes, index):
    """Positions, differences and ends of the intervals of a model, each (N,)."""
    line, (_, _, (bars,)) = lines(axes)[index], axes.containers[index]
    ends = np.array(bars.get_segments())[:, :, 1]
    return line.get_xdata(), line.get_ydata(), ends[:, 0], ends[:, 1]


def test_points_and_intervals_in_points_of_ap(draw):
    dense = [gap('ce', 0.01, -0.005, 0.02), gap('ohem', -0.1, -0.12, -0.08)]
    sparse = [gap('ce', -0.04, -0.06, -0.03)]
    axes = draw([dense, sparse], ['a', 'b'], positions=[20, 1], is_log=True)
    ce, ohem = lines(axes)
    x, ap, low, high = points(axes, 0)
    # From left to right, beside each other at their own place.
    assert np.allclose(x, [1, 20], rtol=0.6)
    assert np.allclose(ap, [-4, 1])
    assert np.allclose(low, [-6, -0.5])
    assert np.allclose(high, [-3, 2])
    assert ce.get_linestyle() == '-'
    x_ohem, ap, low, high = points(axes, 1)
    assert np.allclose([ap, low, high], [[-10], [-12], [-8]])
    assert x_ohem[0] > x[1]
    assert ce.get_color() != ohem.get_color()
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ['20', '1']
    assert axes.get_ylabel() == 'AP - AP of fl'


def test_names_without_lines_if_there_are_no_positions(draw):
    axes = draw([[gap('ce', 0.1, 0, 0.2)], [gap('ce', 0.2, 0.1, 0.3)]], ['a$', 'b'])
    assert lines(axes)[0].get_linestyle() == 'None'
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [r'a\$', 'b']


def test_an_interval_need_not_hold_its_point(draw):
    axes = draw([[gap('ce', 0.1, 0.12, 0.2)], [gap('ce', 0.3, 0.1, 0.2)]], ['a', 'b'])
    _, ap, low, high = points(axes, 0)
    assert np.allclose([ap, low, high], [[10, 30], [12, 10], [20, 20]])


def test_a_name_that_begins_with_an_underscore_is_in_the_legend(draw):
    axes = draw([[gap('_ce', 0.1, 0, 0.2), gap('ohem', 0.1, 0, 0.2)]], ['a'])
    (legend,) = axes.figure.legends
    names = [text.get_text().lstrip('\u200b') for text in legend.get_texts()]
    assert names == ['_ce', 'ohem']


def test_comparisons_that_do_not_fit_are_refused(draw):
    one = [gap('ce', 0.1, 0, 0.2)]
    with pytest.raises(UserError, match='different references: fl, other'):
        draw([one, [gap('ce', 0.1, 0, 0.2, 'other')]], ['a', 'b'])
    with pytest.raises(UserError, match='no place for 0'):
        draw([one, one], ['a', 'b'], positions=[0, 1], is_log=True)
    many = [gap(f'model-{i}', 0.1, 0, 0.2) for i in range(style.MOST_LOOKS + 1)]
    with pytest.raises(UserError, match='too many'):
        draw([many], ['a'])


@pytest.mark.parametrize(
    'text, message',
    [
        (None, 'cannot be read'),
        ('{', 'is not JSON'),
        ('[]', r'is not a comparison by tools/compare.py --json'),
        ('{"differences": []}', 'has no differences'),
    ],
)
def test_a_file_that_is_no_comparison_is_named(tmp_path, text, message):
    file = tmp_path / 'mine.json'
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=rf'mine\.json: .*{message}'):
        read_differences(file)


def test_the_tool_writes_a_picture_and_overwrites_none(tmp_path):
    for name, ap in [('many', 0.01), ('few', -0.02)]:
        text = json.dumps(dict(differences=[gap('ce', ap, ap - 0.01, ap + 0.01)]))
        (tmp_path / f'{name}.json').write_text(text)

    def plot(*words):
        done = subprocess.run(
            [sys.executable, ROOT / 'tools/plot_differences.py', *words],
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert 'Traceback' not in done.stdout
        return done.returncode, done.stdout

    files = ['many.json', 'few.json']
    assert plot(*files, '--x', '20', '1', '--log') == (0, 'wrote differences.png\n')
    assert (tmp_path / 'differences.png').read_bytes().startswith(b'\x89PNG')
    code, output = plot(*files)
    assert code != 0 and 'differences.png exists' in output
    code, output = plot(*files, '--x', '20')
    assert code != 0 and '--x has 1 numbers for 2 files' in output


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path, monkeypatch):
    files = [tmp_path / folder / 'compared.json' for folder in 'ab']
    for file in files:
        file.parent.mkdir()
        file.write_text(json.dumps(dict(differences=[gap('ce', 0.1, 0, 0.2)])))
    out = tmp_path / 'both.svg'
    words = ['plot_differences.py', *files, '--out', out]
    monkeypatch.setattr(sys, 'argv', [str(word) for word in words])
    runpy.run_path(str(ROOT / 'tools/plot_differences.py'), run_name='__main__')
    text = out.read_text()
    assert all(f'>{file}<' in text for file in files)


@pytest.mark.parametrize('number', ['nan', 'inf', 'two'])
def test_a_place_is_a_finite_number(number, fail):
    output = fail('tools/plot_differences.py', 'a.json', 'b.json', '--x', '1', number)
    assert f'--x: must be a finite number, got {number}' in output
