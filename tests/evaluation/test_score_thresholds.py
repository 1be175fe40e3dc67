"""Precision, recall and F1 by hand, and compared with pycocotools'."""

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from focal_retinanet.evaluation.detection_errors import classify_detections
from focal_retinanet.evaluation.score_thresholds import (
    THRESHOLDS,
    ScoredDetections,
    all_classes,
    describe_best,
    score_detections,
    thresholds_table,
)
from focal_retinanet.visualization.score_thresholds import draw_thresholds


def scored(scores, right, objects):
    return ScoredDetections(np.array(scores, float), np.array(right, bool), objects)


#: Two of three objects found, a false alarm between.
THREE = scored([0.9, 0.5, 0.7], [1, 1, 0], 3)


def test_numbers_by_hand():
    assert THREE.at(0.95)[1:] == pytest.approx((np.nan, 0, 0), nan_ok=True)
    assert THREE.at(0.9)[1:] == pytest.approx((1, 1 / 3, 1 / 2))
    assert THREE.at(0.705)[1:] == pytest.approx((1, 1 / 3, 1 / 2))
    assert THREE.at(0.7)[1:] == pytest.approx((1 / 2, 1 / 3, 2 / 5))
    assert THREE.at(0.5)[1:] == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert len(THREE.curve) == len(THRESHOLDS) == 101
    for point in THREE.curve:
        assert point == pytest.approx(THREE.at(point.score_thr), nan_ok=True)


def test_the_best_threshold_is_in_the_middle_of_equal_ones():
    assert THREE.best == THREE.at(0.25)  # equal from 0 to 0.5
    assert scored([0.9, 0.3], [1, 0], 1).best == (0.6, 1, 1, 1)  # 0.31 to 0.90
    assert scored([0.9], [0], 1).best is None
    assert scored([0.9], [0], 0).best is None
    assert scored([], [], 1).best is None
    assert np.isnan(scored([0.9], [0], 0).at(0.5).f1)


def test_precision_and_recall_are_pycocotools(random_data, to_coco):
    for seed in range(3):
        dataset, detections = random_data(images=30, classes=3, seed=seed)
        coco = to_coco(dataset)
        by_class = score_detections(classify_detections(coco, detections), range(4))
        for thr in (0.0, 0.3, 0.62, 1.1):
            kept = [d for d in detections if d['score'] >= thr]
            reference = COCOeval(coco, coco.loadRes(kept), 'bbox') if kept else None
            for cat_id, one in by_class.items():
                point = one.at(thr)
                if reference is None:
                    assert np.isnan(point.precision)
                    continue
                reference.params.catIds = [cat_id]
                reference.params.iouThrs = np.array([0.5])
                reference.evaluate()
                images = reference.evalImgs[: len(coco.imgs)]  # the first area range
                images = [i for i in images if i is not None]
                counted = sum((~i['dtIgnore']).sum() for i in images)
                right = sum(
                    ((i['dtMatches'] > 0) & ~i['dtIgnore']).sum() for i in images
                )
                objects = sum((np.array(i['gtIgnore']) == 0).sum() for i in images)
                assert one.objects == objects
                expected = (
                    right / counted if counted else np.nan,
                    right / objects if objects else np.nan,
                )
                assert point[1:3] == pytest.approx(expected, nan_ok=True)


def test_tables_and_sentences():
    by_class = {1: THREE, 4: scored([0.8], [1], 1), 9: scored([], [], 0)}
    together = all_classes(by_class)
    assert (len(together.scores), together.objects) == (4, 4)
    names = {1: 'cat', 4: 'dog', 9: 'bird'}
    rows = thresholds_table(by_class, names, 0.7)
    assert rows[0][-3:] == ['F1 at 0.7', 'precision at 0.7', 'recall at 0.7']
    assert rows[1] == [
        'cat',
        '3',
        '0.25',
        '66.7',
        '66.7',
        '66.7',
        '40.0',
        '50.0',
        '33.3',
    ]
    assert rows[2][:6] == ['dog', '1', '0.40', '100.0', '100.0', '100.0']
    assert rows[3] == ['bird', '0', *'-------']
    assert rows[4][:6] == ['all classes', '4', '0.25', '75.0', '75.0', '75.0']
    assert len(thresholds_table({1: THREE}, names)) == 2  # all classes are one
    assert describe_best(by_class) == (
        'Best F1 of all classes: 75.0 % at a score of 0.25, with 75.0 % precision and '
        '75.0 % recall.'
    )
    assert 'no threshold is best' in describe_best({9: by_class[9]})


def test_classes_with_equal_names_are_two(tmp_path):
    by_class = {1: THREE, 4: scored([0.8], [1], 1)}
    names = {1: '_cat', 4: '_cat'}
    rows = thresholds_table(by_class, names)
    assert [row[:2] for row in rows[1:]] == [
        ['_cat', '3'],
        ['_cat', '1'],
        ['all classes', '4'],
    ]
    text = draw_thresholds(by_class, names, tmp_path / 'chart.svg').read_text()
    # A legend would leave out a name with an underscore in front.
    assert '_cat: 66.7 at 0.25' in text and '_cat: 100.0 at 0.40' in text
