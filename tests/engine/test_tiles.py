"""Detection in tiles gives the objects of the whole image, each once."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from scipy import ndimage

from focal_retinanet.engine.tiles import Tiling, merge_tiles, nms_of, predict_tiles

NMS = dict(type='nms', iou_threshold=0.5)
# Objects up to 20 pixels are complete in one tile.
TILING = Tiling(tile=64, overlap=20 / 64)


def scene(height, width, seed, smallest=3):
    """Draw objects of two classes, which do not touch: grey 1 and grey 2."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.uint8)
    for _ in range(400):
        w, h = rng.integers(smallest, 21, 2)
        x, y = rng.integers(0, width - w + 1), rng.integers(0, height - h + 1)
        if not image[max(y - 1, 0) : y + h + 1, max(x - 1, 0) : x + w + 1].any():
            image[y : y + h, x : x + w] = rng.integers(1, 3)
    return image


def detect(images):
    """Find the rectangles exactly, also those that the border of an image cuts.

    The network is equivariant to translations. Its scores are best for the smallest
    boxes, so pieces of objects rank above the objects.
    """
    samples = []
    for image in images:
        boxes, labels = [], []
        for label in (0, 1):
            parts, _ = ndimage.label(image[..., 0] == label + 1)
            for rows, columns in ndimage.find_objects(parts):
                boxes.append([columns.start, rows.start, columns.stop, rows.stop])
                labels.append(label)
        bboxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        areas = (bboxes[:, 2:] - bboxes[:, :2]).prod(1)
        samples.append(
            DetDataSample(
                pred_instances=InstanceData(
                    bboxes=bboxes,
                    scores=1 / (1 + areas),
                    labels=torch.tensor(labels, dtype=torch.int64),
                )
            )
        )
    return samples


def objects(found):
    """Return what was found as a sorted list, so that an object found twice shows."""
    boxes = found.bboxes.tolist()
    return sorted(zip(found.labels.tolist(), map(tuple, boxes), strict=True))


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('size', [(200, 300), (64, 301), (171, 50), (65, 64)])
def test_tiles_find_the_objects_of_the_whole_image_once(seed, size):
    image = scene(*size, seed)
    [whole] = detect([image])
    samples = predict_tiles(detect, image, TILING, batch_size=3)
    assert objects(merge_tiles(samples, NMS)) == objects(whole.pred_instances)


@pytest.mark.parametrize('seed', range(5))
def test_an_inexact_detector_finds_each_object_once(seed):
    """Its boxes are up to 5 % of their size wrong, and its scores are random.

    It does not see parts of below 4 pixels.
    """
    rng = np.random.default_rng(seed)
    image = scene(200, 300, seed, smallest=8)

    def detect_inexactly(images):
        for image, sample in zip(images, samples := detect(images), strict=True):
            found = sample.pred_instances
            sides = (found.bboxes[:, 2:] - found.bboxes[:, :2]).repeat(1, 2)
            found, sides = found[sides.amin(1) >= 4], sides[sides.amin(1) >= 4]
            wrong = torch.tensor(rng.uniform(-0.05, 0.05, sides.shape)).float() * sides
            limit = torch.tensor(image.shape[1::-1] * 2)
            found.bboxes = (found.bboxes + wrong).clamp(min=0).minimum(limit)
            found.scores = torch.tensor(rng.uniform(0, 1, len(found)))
            sample.pred_instances = found
        return samples

    [whole] = detect([image])
    found = merge_tiles(predict_tiles(detect_inexactly, image, TILING), NMS)
    assert len(found) == len(whole.pred_instances)


def test_without_the_rule_for_pieces_objects_are_found_twice(monkeypatch):
    """The scenes above are hard enough: suppression by IoU alone does not do."""
    image = scene(200, 300, 0)
    [whole] = detect([image])
    samples = predict_tiles(detect, image, TILING)
    monkeypatch.setattr(
        'focal_retinanet.engine.tiles.find_pieces',
        lambda bboxes, *args: torch.zeros(len(bboxes), dtype=torch.bool),
    )
    assert len(merge_tiles(samples, NMS)) > len(whole.pred_instances) + 5


def test_the_whole_image_has_the_objects_that_no_tile_holds():
    image = scene(200, 300, 0)
    image[20:180, 100:190] = 0
    image[30:170, 110:180] = 2  # 70 x 140
    [whole] = detect([image])
    pieces = merge_tiles(predict_tiles(detect, image, TILING), NMS)
    large = (1, (110.0, 30.0, 180.0, 170.0))
    assert large in objects(whole.pred_instances) and large not in objects(pieces)
    samples = predict_tiles(detect, image, Tiling(64, 20 / 64, full_image=True))
    assert objects(merge_tiles(samples, NMS)) == objects(whole.pred_instances)


def test_tiles_without_overlap_keep_both_pieces():
    image = np.zeros((64, 128, 3), np.uint8)
    image[10:20, 60:70] = 1
    found = merge_tiles(predict_tiles(detect, image, Tiling(64, 0)), NMS)
    assert objects(found) == [(0, (60, 10, 64, 20)), (0, (64, 10, 70, 20))]


def test_classes_merge_only_where_the_config_says_so():
    tiles = [(0, 0, 64, 64), (32, 0, 96, 64), (64, 0, 128, 64)]
    boxes = [[50.0, 10, 64, 30], [50.0, 10, 70, 30]]

    def sample(tile, box, label):
        found = InstanceData(
            bboxes=torch.tensor(box).reshape(-1, 4),
            scores=torch.full((len(box),), 0.5),
            labels=torch.full((len(box),), label),
        )
        return DetDataSample(metainfo=dict(tile=tile), pred_instances=found)

    samples = [
        sample(tiles[0], boxes[:1], 0),
        sample(tiles[1], boxes[1:], 1),
        sample(tiles[2], [], 0),
    ]
    assert len(merge_tiles(samples, NMS)) == 2
    agnostic = merge_tiles(samples, dict(NMS, class_agnostic=True))
    assert objects(agnostic) == [(1, tuple(boxes[1]))]
    assert len(merge_tiles(samples[2:], NMS)) == 0


def test_tiles_are_views_and_come_in_batches():
    image = scene(200, 300, 1)
    seen, said = [], []

    def predict(images):
        assert all(np.shares_memory(one, image) for one in images)
        seen.append([one.shape[:2] for one in images])
        return detect(images)

    tiling = Tiling(64, 20 / 64, full_image=True)
    predict_tiles(predict, image, tiling, 4, lambda *numbers: said.append(numbers))
    # 5 rows of 7 tiles.
    assert seen == [[(64, 64)] * 4] * 8 + [[(64, 64)] * 3, [(200, 300)]]
    assert said == [*((4 * i, 36) for i in range(1, 9)), (35, 36), (36, 36)]


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (dict(tile=31), 'at least 32 pixels, not 31'),
        (dict(overlap=1.0), 'from 0 to below 1, not 1.0'),
        (dict(overlap=-0.1), 'not -0.1'),
        (dict(overlap=float('nan')), 'not nan'),
    ],
)
def test_impossible_tiles_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        Tiling(**arguments)


def test_the_suppression_is_the_configs():
    rpn = dict(nms=dict(type='nms', iou_threshold=0.7))
    rcnn = dict(nms=dict(type='soft_nms', iou_threshold=0.4))
    one_stage = dict(test_cfg=dict(nms=dict(type='nms', iou_threshold=0.6)))
    assert nms_of(one_stage)['iou_threshold'] == 0.6
    assert nms_of(dict(test_cfg=dict(rpn=rpn, rcnn=rcnn)))['type'] == 'soft_nms'
    assert nms_of({}) == dict(type='nms', iou_threshold=0.5)
