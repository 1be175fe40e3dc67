"""The charts of a report, by numbers that one can check by hand."""

import numpy as np
import pytest

from focal_retinanet.evaluation.comparison import compare
from focal_retinanet.evaluation.detection_errors import ERRORS, classify_detections
from focal_retinanet.evaluation.runs import find_models
from focal_retinanet.visualization import style
from focal_retinanet.visualization.report.charts import (
    MOST_BARS,
    class_precision_recall,
    draw_differences,
    draw_errors,
    draw_histogram,
    draw_precision_recall,
    draw_speed_accuracy,
    short_names,
    shorten,
)

CAT, DOG = 1, 2


def test_precision_and_recall_of_a_class(coco, detections, make_run):
    images = classify_detections(coco, detections)
    curve = class_precision_recall(images, CAT)
    # By score: correct, wrong, wrong, correct, for two cats.
    np.testing.assert_allclose(curve[:51], 1)
    np.testing.assert_allclose(curve[51:], 0.5)
    both = [curve.mean(), class_precision_recall(images, DOG).mean()]
    models, _ = find_models([make_run('run', detections)])
    [row] = compare(models, num_resamples=0, warn=lambda line: None)['models']
    assert np.mean(both) == pytest.approx(row['AP50'], abs=1e-12)
    assert class_precision_recall(images, 3) is None
    assert not class_precision_recall(classify_detections(coco, []), CAT).any()


def test_charts_that_have_nothing_to_say_are_left_out(tmp_path):
    costs = {str(i): dict.fromkeys(ERRORS, 0.1) for i in range(MOST_BARS + 1)}
    assert draw_errors(costs, tmp_path / 'errors.svg') is None
    row = dict(name='a', AP=0.1, AP_sd=None, images_per_second=None)
    assert draw_speed_accuracy([row], tmp_path / 'speed.svg') is None
    assert list(tmp_path.iterdir()) == []
    assert len(shorten('x' * 99)) == 34 and shorten('short') == 'short'


def test_names_with_the_same_end_are_told_apart(tmp_path):
    end = '/retinanet_r50_fpn_1x_coco_bbox-detections'
    names = [f'work_dirs/first{end}', f'work_dirs/second{end}', 'third']
    assert short_names(names) == {
        names[0]: 'work_dirs/first…',
        names[1]: 'work_dirs/second…',
        'third': 'third',
    }
    # A part that is equal in the short names, too: the whole names are shown.
    deep = [f'{part}{end}/x{"y" * 40}{end}' for part in 'ab']
    assert list(short_names([*deep, f'c{"y" * 40}']).values())[:2] == ['a…', 'b…']
    both = ['a/x' + 'y' * 50, 'a/x' + 'z' * 50, 'b/x' + 'y' * 50, 'b/x' + 'z' * 50]
    assert list(short_names(both).values()) == both

    curves = dict.fromkeys(names, np.ones(101))
    row = dict(AP=0.1, AP_sd=None, images_per_second=1.0)
    gap = dict(reference='third', AP=0.1, low=0, high=0.2, within_noise=False)
    files = [
        draw_precision_recall(curves, tmp_path / 'curves.svg'),
        draw_speed_accuracy(
            [dict(row, name=name) for name in names], tmp_path / 'speed.svg'
        ),
        draw_differences(
            [dict(gap, model=name) for name in names[:2]], tmp_path / 'gaps.svg'
        ),
        draw_errors(
            {name: dict.fromkeys(ERRORS, 0.1) for name in names}, tmp_path / 'bars.svg'
        ),
    ]
    for file in files:
        text = file.read_text()
        assert 'first…' in text and 'second…' in text and 'third' in text, file


def test_names_that_begin_with_an_underscore_are_in_the_legends(tmp_path):
    row = dict(AP=0.1, AP_sd=None, images_per_second=1.0)
    costs = dict.fromkeys(ERRORS, 0.1)
    files = [
        draw_precision_recall({'_mine': np.ones(101)}, tmp_path / 'curves.svg'),
        draw_speed_accuracy([dict(row, name='_mine')], tmp_path / 'speed.svg'),
        draw_errors({'_mine': costs}, tmp_path / 'bars.svg'),
    ]
    for file in files:
        assert '_mine' in file.read_text(), file


def test_the_last_bar_has_the_largest_objects(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(style, 'save_figure', lambda f, _: figures.append(f))
    draw_histogram([1, 1, 5, 99], [0, 2, 4], 'x', 'y', tmp_path / 'x.svg')
    (axes,) = figures[0].axes
    assert [bar.get_height() for bar in axes.patches] == [2, 2]
    assert [text.get_text() for text in axes.texts] == ['last bar: 2 and more']
    draw_histogram([1, 1, 3], [0, 2, 4], 'x', 'y', tmp_path / 'x.svg')
    (axes,) = figures[1].axes
    assert [bar.get_height() for bar in axes.patches] == [2, 1] and not axes.texts
