"""Kinds of errors and their costs, by hand and compared with pycocotools."""

import numpy as np
import pytest

from focal_retinanet.evaluation.average_precision import MatchedDetections
from focal_retinanet.evaluation.detection_errors import (
    ERRORS,
    KINDS,
    classify_detections,
    cost_of_errors,
    image_ap50,
)
from focal_retinanet.evaluation.worst_images import errors_table

BOX = [10, 10, 100, 100]
SHIFTED = [50, 10, 100, 100]  # IoU with BOX 6000 / 14000
FAR = [500, 500, 50, 50]


def ground_truth(*objects):
    return dict(
        images=[dict(id=7, width=1000, height=1000)],
        categories=[dict(id=1, name='a'), dict(id=2, name='b')],
        annotations=[
            dict(
                id=index + 1,
                image_id=7,
                category_id=category,
                bbox=box,
                area=box[2] * box[3],
                iscrowd=int(crowd),
            )
            for index, (box, category, crowd) in enumerate(objects)
        ],
    )


def detection(box, category, score):
    return dict(image_id=7, category_id=category, bbox=box, score=score)


@pytest.mark.parametrize(
    'detections, kinds, missed',
    [
        ([(BOX, 1, 0.9)], ['correct'], [False]),
        ([(BOX, 2, 0.9)], ['classification'], [False]),
        ([(SHIFTED, 1, 0.9)], ['localisation'], [False]),
        ([(SHIFTED, 2, 0.9)], ['both'], [True]),
        ([(FAR, 1, 0.9)], ['background'], [True]),
        ([(BOX, 1, 0.5), (BOX, 1, 0.9)], ['correct', 'duplicate'], [False]),
        ([], [], [True]),
    ],
)
def test_each_kind(to_coco, detections, kinds, missed):
    coco = to_coco(ground_truth((BOX, 1, False)))
    (image,) = classify_detections(coco, [detection(*d) for d in detections])
    assert [KINDS[kind] for kind in image.kinds] == kinds
    assert image.missed.tolist() == missed
    assert np.all(np.diff(image.scores) <= 0)


def test_crowds_count_neither_way(to_coco):
    coco = to_coco(ground_truth((BOX, 1, True)))
    found = [detection(BOX, 1, 0.9), detection(SHIFTED, 1, 0.8)]
    (image,) = classify_detections(coco, found)
    # IoU with a crowd is relative to the detection, most of which lies in the crowd.
    assert [KINDS[kind] for kind in image.kinds] == ['ignored', 'ignored']
    assert not image.missed.any() and not image.not_found().any()


def test_objects_that_are_not_found_from_a_score_on(to_coco):
    coco = to_coco(ground_truth((BOX, 1, False), (FAR, 2, False)))
    (image,) = classify_detections(coco, [detection(BOX, 1, 0.6)])
    assert image.not_found(0.5).tolist() == [False, True]
    assert image.not_found(0.7).tolist() == [True, True]
    assert image.gt_bboxes[0].tolist() == [10, 10, 110, 110]


def test_a_correctable_detection_below_the_score_leaves_its_object_missed(to_coco):
    coco = to_coco(ground_truth((BOX, 1, False), (FAR, 2, False)))
    found = [detection(SHIFTED, 1, 0.6), detection(FAR, 2, 0.4)]
    (image,) = classify_detections(coco, found)
    assert image.missed.tolist() == image.missed_from(0).tolist() == [False, False]
    assert image.missed_from(0.5).tolist() == [False, True]
    assert image.missed_from(0.7).tolist() == [True, True]
    table = {row[0]: row[1:] for row in errors_table([image], 0.5)}
    assert table['error'][:2] == ['number from 0.5', 'number at any score']
    assert table['localisation'][:2] == ['1', '1']
    assert table['missed'][:2] == ['1', '0']
    table = {row[0]: row[1:] for row in errors_table([image], 0.7)}
    assert table['localisation'][:2] == ['0', '1']


def test_objects_that_nothing_finds_are_missed_at_any_score(to_coco):
    coco = to_coco(ground_truth((BOX, 1, False), (FAR, 2, False)))
    images = classify_detections(coco, [detection(BOX, 1, 0.6)])
    table = {row[0]: row[1:] for row in errors_table(images, 0.7)}
    assert table['missed'][:2] == ['2', '1']
    table = {row[0]: row[1:] for row in errors_table(classify_detections(coco, []), 0)}
    assert table['missed'] == ['2', '2', '-'] and table['both'][2] == '0.0 (+0.0)'


def test_costs_by_hand(to_coco):
    """One object is found, the other is badly placed, a false alarm scores best."""
    coco = to_coco(ground_truth((BOX, 1, False), (FAR, 1, False)))
    near = [FAR[0] + 20, *FAR[1:]]  # IoU 30/70
    images = classify_detections(
        coco,
        [
            detection([800, 100, 50, 50], 1, 0.9),
            detection(BOX, 1, 0.8),
            detection(near, 1, 0.7),
        ],
    )
    costs = cost_of_errors(images)
    # Recalls 0 to 0.5 are 51 of 101, at a precision of 1/2.
    assert costs['AP50'] == pytest.approx(51 / 101 / 2)
    # With both found, the precision is 2/3.
    assert costs['localisation'] == pytest.approx(2 / 3 - 51 / 101 / 2)
    assert costs['background'] == pytest.approx(51 / 101 - 51 / 101 / 2)
    for error in ('classification', 'both', 'duplicate', 'missed'):
        assert costs[error] == pytest.approx(0)
    assert image_ap50(images[0]) == costs['AP50']


def test_matching_is_pycocotools(random_data, to_coco):
    for seed in range(5):
        dataset, detections = random_data(images=30, classes=3, seed=seed)
        coco = to_coco(dataset)
        images = classify_detections(coco, detections)
        costs = cost_of_errors(images)
        reference = MatchedDetections(coco, detections)
        assert costs['AP50'] == pytest.approx(reference.summarize()['AP50'], abs=1e-12)
        assert all(costs[error] >= -1e-12 for error in ERRORS)
        # pycocotools' AP50 with one image alone.
        for weights, image in zip(np.eye(len(images), dtype=int), images, strict=True):
            expected = reference.summarize(weights)['AP50']
            assert image_ap50(image) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_categories_can_be_chosen(to_coco):
    coco = to_coco(ground_truth((BOX, 1, False), (FAR, 2, False)))
    found = [detection(BOX, 1, 0.6), detection(FAR, 2, 0.6)]
    (image,) = classify_detections(coco, found, [2])
    assert image.category_ids.tolist() == image.gt_category_ids.tolist() == [2]
