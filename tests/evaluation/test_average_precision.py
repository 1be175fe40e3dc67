"""AP of weighted images equals pycocotools' on a data set with copies."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from focal_retinanet.evaluation.average_precision import METRICS, MatchedDetections


def copied(dataset, detections, weights):
    """The data set with ``weights`` copies of each image side by side."""
    images, annotations, found = [], [], []
    for image, weight in zip(dataset['images'], weights, strict=True):
        for _ in range(weight):
            new = len(images)
            images.append({**image, 'id': new})
            for source, target in (
                (dataset['annotations'], annotations),
                (detections, found),
            ):
                for entry in source:
                    if entry['image_id'] == image['id']:
                        entry = {**entry, 'image_id': new, 'id': len(target) + 1}
                        target.append(entry)
    return {**dataset, 'images': images, 'annotations': annotations}, found


def pycocotools_numbers(coco, detections):
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(coco, coco.loadRes(detections), 'bbox')
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [np.nan if value == -1 else value for value in evaluator.stats[:6]]


def assert_equal(numbers, expected):
    assert list(numbers) == list(METRICS)
    np.testing.assert_allclose(list(numbers.values()), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('seed', range(4))
def test_resamples_are_data_sets_with_copies(seed, random_data, to_coco):
    dataset, detections = random_data(seed=seed)
    matches = MatchedDetections(to_coco(dataset), detections)
    expected = pycocotools_numbers(to_coco(dataset), detections)
    assert_equal(matches.summarize(), expected)
    rng = np.random.default_rng(seed)
    for _ in range(3):
        weights = rng.multinomial(12, np.full(12, 1 / 12))
        resample, found = copied(dataset, detections, weights)
        expected = pycocotools_numbers(to_coco(resample), found)
        assert_equal(matches.summarize(weights), expected)


def test_coco_example(shared_data):
    folder = shared_data / 'coco_eval'
    if not folder.is_dir():
        pytest.skip(f'COCO example is not there: {folder}')
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / 'instances_val2014_100.json'))
    results = folder / 'instances_val2014_fakebbox100_results.json'
    detections = json.loads(results.read_text())
    before = json.dumps(detections)
    matches = MatchedDetections(coco, detections)
    assert json.dumps(detections) == before
    assert_equal(matches.summarize(), pycocotools_numbers(coco, detections))


def test_chosen_classes_no_detections_and_nothing_to_find(random_data, to_coco):
    dataset, detections = random_data()
    coco = to_coco(dataset)
    one = MatchedDetections(coco, detections, [1])
    all_classes = MatchedDetections(coco, detections)
    np.testing.assert_array_equal(
        one.average_precision()[:, 0], all_classes.average_precision()[:, 1]
    )
    assert MatchedDetections(coco, []).summarize()['AP'] == 0
    assert np.isnan(all_classes.average_precision()[:, 3]).all()
    nothing = MatchedDetections(to_coco({**dataset, 'annotations': []}), detections)
    assert np.isnan(list(nothing.summarize().values())).all()
