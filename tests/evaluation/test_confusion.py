"""Confusions by hand, and sums that hold for all detections."""

import numpy as np
import pytest

from focal_retinanet.evaluation.confusion import confusion_matrix, confusion_table
from focal_retinanet.evaluation.detection_errors import IGNORED, classify_detections

CAT, DOG = 1, 2
BOX, NEAR, FAR = [10, 10, 100, 100], [12, 10, 100, 100], [500, 500, 50, 50]


def truth(*objects):
    return dict(
        images=[dict(id=7, width=1000, height=1000)],
        categories=[dict(id=CAT, name='cat'), dict(id=DOG, name='dog')],
        annotations=[
            dict(id=n, image_id=7, category_id=c, bbox=b, area=b[2] * b[3], iscrowd=w)
            for n, (b, c, w) in enumerate(objects, 1)
        ],
    )


@pytest.mark.parametrize(
    ('found', 'score_thr', 'expected'),
    [
        # cat and dog found as cat, dog, nothing; then what is found on nothing
        ([], 0.5, [[0, 0, 1], [0, 0, 1], [0, 0, 0]]),
        ([(BOX, CAT, 0.9), (FAR, DOG, 0.9)], 0.5, [[1, 0, 0], [0, 1, 0], [0, 0, 0]]),
        ([(BOX, DOG, 0.9)], 0.5, [[0, 1, 0], [0, 0, 1], [0, 0, 0]]),
        ([(BOX, DOG, 0.4)], 0.5, [[0, 0, 1], [0, 0, 1], [0, 0, 0]]),
        # A worse score of the right class takes the object first ...
        ([(BOX, DOG, 0.9), (NEAR, CAT, 0.6)], 0.5, [[1, 0, 0], [0, 0, 1], [0, 1, 0]]),
        # ... if it counts.
        ([(BOX, DOG, 0.9), (NEAR, CAT, 0.6)], 0.7, [[0, 1, 0], [0, 0, 1], [0, 0, 0]]),
        # Twice, and beside every object.
        ([(BOX, CAT, 0.9), (NEAR, CAT, 0.8)], 0.5, [[1, 0, 0], [0, 0, 1], [1, 0, 0]]),
        ([(BOX, DOG, 0.9), (NEAR, DOG, 0.8)], 0.5, [[0, 1, 0], [0, 0, 1], [0, 1, 0]]),
        ([([300, 10, 9, 9], DOG, 0.5)], 0.5, [[0, 0, 1], [0, 0, 1], [0, 1, 0]]),
    ],
)
def test_confusions_by_hand(to_coco, found, score_thr, expected):
    coco = to_coco(truth((BOX, CAT, 0), (FAR, DOG, 0)))
    detections = [
        dict(image_id=7, category_id=c, bbox=b, score=score) for b, c, score in found
    ]
    images = classify_detections(coco, detections)
    matrix = confusion_matrix(images, [CAT, DOG], score_thr)
    assert matrix.tolist() == expected


def test_rows_are_objects_and_columns_detections(random_data, to_coco):
    for seed in range(3):
        dataset, detections = random_data(images=30, classes=3, seed=seed)
        images = classify_detections(to_coco(dataset), detections)
        for thr in (0.0, 0.4):
            matrix = confusion_matrix(images, range(4), thr)
            for cat_id in range(4):
                objects = sum(
                    ((i.gt_category_ids == cat_id) & ~i.gt_crowd).sum() for i in images
                )
                found = sum(
                    (
                        (i.category_ids == cat_id)
                        & (i.scores >= thr)
                        & ~i.is_kind(IGNORED)
                    ).sum()
                    for i in images
                )
                assert matrix[cat_id].sum() == objects
                assert matrix[:, cat_id].sum() == found
            right = sum(
                (i.is_kind('correct') & (i.scores >= thr)).sum() for i in images
            )
            assert np.trace(matrix) == right > 0


def test_tables_of_few_and_of_many_classes():
    rows = confusion_table(np.array([[1200, 1], [2, 0]]), ['cat'])
    assert rows == [
        ['object \\ found as', 'cat', 'nothing'],
        ['cat', '1,200', '1'],
        ['nothing', '2', ''],
    ]
    matrix = np.eye(31, dtype=int) * 9
    matrix[3, 5], matrix[30, 2] = 7, 8
    rows = confusion_table(matrix, [f'class {n}' for n in range(30)])
    assert rows == [
        ['object', 'found as', 'number'],
        ['nothing', 'class 2', '8'],
        ['class 3', 'class 5', '7'],
    ]
