"""COCO's average precision for any weighting of the images, such as a resample's."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval, Params

from focal_retinanet.cli.console import quiet_pycocotools

AREAS = ('all', 'small', 'medium', 'large')
#: COCO's IoU threshold (None for all ten) and area range of each metric.
METRICS = {
    'AP': (None, 'all'),
    'AP50': (0.5, 'all'),
    'AP75': (0.75, 'all'),
    'APs': (None, 'small'),
    'APm': (None, 'medium'),
    'APl': (None, 'large'),
}
#: COCO's IoU thresholds, (T,), and the recalls at which it reads the precision, (101,).
IOU_THRS = Params(iouType='bbox').iouThrs
RECALLS = Params(iouType='bbox').recThrs


@dataclass(frozen=True)
class ClassMatches:
    """pycocotools' matches of one class and area range, the best scores first.

    Attributes:
        image: int64 (D,), index of each detection's image.
        counted: bool (T, D), False for detections that match a crowd or have a size
            out of the range.
        right: T int64 arrays, indices of the correct detections.
        objects: int64 (I,), number of objects in each image.
    """

    image: np.ndarray
    counted: np.ndarray
    right: list[np.ndarray]
    objects: np.ndarray


class MatchedDetections:
    """Detections that are matched once, to compute the AP of many resamples.

    Boxes are COCO's: xywh in absolute pixels. The 100 best scores of an image count.

    Args:
        coco: Ground truth.
        detections: Dicts with ``image_id``, ``category_id``, ``bbox``, ``score``.
        cat_ids: Categories that count (default: all categories).

    Attributes:
        img_ids: Ids of the I images, in the order of the weights.
        cat_ids: Ids of the K categories, in the order of the APs.
    """

    def __init__(
        self,
        coco: COCO,
        detections: Sequence[dict],
        cat_ids: Sequence[int] | None = None,
    ) -> None:
        evaluator = _evaluate(coco, detections, cat_ids)
        self.img_ids: list[int] = list(evaluator.params.imgIds)
        self.cat_ids: list[int] = list(evaluator.params.catIds)
        per_image = iter(evaluator.evalImgs)
        # pycocotools' order: classes, then area ranges, then images.
        self._matches: list[dict[str, ClassMatches]] = [
            {area: _gather([next(per_image) for _ in self.img_ids]) for area in AREAS}
            for _ in self.cat_ids
        ]

    def average_precision(
        self, area: str = 'all', weights: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the AP of each IoU threshold and class.

        Args:
            area: One of ``AREAS``.
            weights: int (I,), number of copies of each image (default: 1). The
                result is pycocotools' for a data set that has these copies side by
                side, but for the arbitrary order of equal scores within an image.

        Returns:
            float64 (T, K); NaN for a class without objects.
        """
        if weights is None:
            weights = np.ones(len(self.img_ids), np.int64)
        ap = [_class_ap(matches[area], weights) for matches in self._matches]
        return np.stack(ap, axis=1) if ap else np.empty((len(IOU_THRS), 0))

    def summarize(self, weights: np.ndarray | None = None) -> dict[str, float]:
        """Return each of ``METRICS`` in [0, 1], or NaN where there are no objects."""
        ap = {area: self.average_precision(area, weights) for area in AREAS}
        return {
            name: _mean(ap[area] if thr is None else ap[area][thr == IOU_THRS])
            for name, (thr, area) in METRICS.items()
        }


def precision_at_recalls(
    right: np.ndarray, counted: np.ndarray, objects: int
) -> np.ndarray:
    """Return COCO's precision at each of ``RECALLS``, (101,).

    Precision peaks and recall rises at correct detections only, so the curve needs
    no others. At recall r it is the best precision from r on, or 0 if r is not
    reached.

    Args:
        right: (R,) number of correct detections up to each correct one, the best
            scores first.
        counted: (R,) number of all detections up to each correct one.
        objects: Number of objects, at least 1.
    """
    precision = right / (counted + np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return np.append(envelope, 0.0)[np.searchsorted(right / objects, RECALLS)]


def precision_recall(scores: np.ndarray, right: np.ndarray, objects: int) -> np.ndarray:
    """Return COCO's precision at each of ``RECALLS``, (101,); its mean is the AP.

    Args:
        scores: (D,) scores of the detections of one class that count.
        right: bool (D,), whether each has found an object.
        objects: Number of objects, at least 1.
    """
    at = np.flatnonzero(right[np.argsort(-scores, kind='stable')])
    return precision_at_recalls(np.arange(1, len(at) + 1), at + 1, objects)


def _class_ap(matches: ClassMatches, weights: np.ndarray) -> np.ndarray:
    """AP of one class at each IoU threshold, float64 (T,)."""
    objects = matches.objects @ weights
    if objects == 0:
        return np.full(len(IOU_THRS), np.nan)
    weight = weights[matches.image]
    counted = np.cumsum(weight * matches.counted, axis=1)
    ap = [
        precision_at_recalls(np.cumsum(weight[right]), counts[right], objects).mean()
        for right, counts in zip(matches.right, counted, strict=True)
    ]
    return np.array(ap)


def _mean(ap: np.ndarray) -> float:
    """Mean over the classes with objects."""
    ap = ap[~np.isnan(ap)]
    return float(ap.mean()) if ap.size else float('nan')


@quiet_pycocotools()
def _evaluate(
    coco: COCO, detections: Sequence[dict], cat_ids: Sequence[int] | None
) -> COCOeval:
    """Match by pycocotools, without its output."""
    if detections:
        # pycocotools adds keys to the dicts.
        found = coco.loadRes([copy.copy(detection) for detection in detections])
    else:
        found = COCO()
        found.dataset = {**coco.dataset, 'annotations': []}
        found.createIndex()
    evaluator = COCOeval(coco, found, 'bbox')
    if cat_ids is not None:
        evaluator.params.catIds = list(cat_ids)
    evaluator.params.maxDets = [100]
    evaluator.evaluate()
    return evaluator


def _gather(per_image: list[dict | None]) -> ClassMatches:
    """Join one class and area range of all images, as pycocotools' ``accumulate``."""
    objects = np.zeros(len(per_image), np.int64)
    scores, image = [np.empty(0)], [np.empty(0, np.int64)]
    matched, ignored = ([np.empty((len(IOU_THRS), 0), bool)] for _ in range(2))
    for index, result in enumerate(per_image):
        if result is None:
            continue
        objects[index] = np.count_nonzero(np.asarray(result['gtIgnore']) == 0)
        scores.append(np.asarray(result['dtScores'], float))
        image.append(np.full(len(result['dtScores']), index))
        matched.append(result['dtMatches'] > 0)
        ignored.append(result['dtIgnore'].astype(bool))
    order = np.argsort(-np.concatenate(scores), kind='mergesort')
    counted = ~np.concatenate(ignored, axis=1)[:, order]
    right = np.concatenate(matched, axis=1)[:, order] & counted
    return ClassMatches(
        image=np.concatenate(image)[order],
        counted=counted,
        right=[np.flatnonzero(row) for row in right],
        objects=objects,
    )
