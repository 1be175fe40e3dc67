"""Small random data sets in pycocotools' format."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO


@pytest.fixture
def to_coco():
    """Function that turns a COCO dict into pycocotools' object."""
    return _to_coco


@pytest.fixture
def random_data():
    """Function that makes a COCO dict and detections."""
    return _random_data


def _to_coco(dataset):
    coco = COCO()
    coco.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _random_data(images=12, classes=3, seed=0):
    """Ground truth with crowds and all sizes, and detections near it.

    Scores tie between images, not within one.
    """
    rng = np.random.default_rng(seed)
    annotations, detections = [], []
    for image in range(images):
        scores = list(rng.permutation(40) / 40)
        for _ in range(rng.integers(0, 9)):
            box = [*rng.uniform(0, 300, 2), *rng.uniform(8, 150, 2)]
            category = int(rng.integers(classes))
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image,
                    category_id=category,
                    bbox=box,
                    area=box[2] * box[3],
                    iscrowd=int(rng.random() < 0.1),
                )
            )
            for _ in range(rng.integers(0, 4)):
                detections.append(
                    dict(
                        image_id=image,
                        category_id=int(rng.choice([category, rng.integers(classes)])),
                        bbox=[v + rng.normal(0, 3) for v in box],
                        score=scores.pop(),
                    )
                )
    dataset = dict(
        info={},
        images=[dict(id=i, width=500, height=500) for i in range(images)],
        annotations=annotations,
        # The last class has no objects.
        categories=[dict(id=i, name=str(i)) for i in range(classes + 1)],
    )
    return dataset, detections
