"""COCO's average precision on any weighting of the images, as a resample has it."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval, Params

from focal_retinanet.cli.console import quiet_pycocotools

AREAS = ('all', 'small', 'medium', 'large')
#: Name of each number: COCO's IoU thresholds (all if None) and area range.
METRICS = {
    'AP': (None, 'all'),
    'AP50': (0.5, 'all'),
    'AP75': (0.75, 'all'),
    'APs': (None, 'small'),
    'APm': (None, 'medium'),
    'APl': (None, 'large'),
}
#: At which COCO reads the precision.
RECALLS = Params(iouType='bbox').recThrs


@dataclass(frozen=True)
class ClassMatches:
    """What pycocotools matched, of one class and area range, by falling score.

    Attributes:
        image: int64 (D,), index of each detection's image.
        counted: bool (T, D), neither matched to a crowd nor out of the range.
        right: T int64 arrays, the indices of the detections that are right.
        objects: int64 (I,), objects to be found in each image.
    """

    image: np.ndarray
    counted: np.ndarray
    right: list[np.ndarray]
    objects: np.ndarray


class MatchedDetections:
    """Detections matched to the ground truth, once, for AP on many resamples.

    Boxes in COCO's format: xywh, absolute pixels. At most 100 detections an
    image count, by score.

    Args:
        coco: the ground truth.
        detections: dicts with ``image_id``, ``category_id``, ``bbox``, ``score``.
        cat_ids: categories that count; all of the ground truth's by default.

    Attributes:
        img_ids: the images, in the order of the weights.
        cat_ids: the categories, in the order of the APs.
    """

    def __init__(
        self,
        coco: COCO,
        detections: Sequence[dict],
        cat_ids: Sequence[int] | None = None,
    ) -> None:
        evaluator = _evaluate(coco, detections, cat_ids)
        params = evaluator.params
        self.img_ids: list[int] = list(params.imgIds)
        self.cat_ids: list[int] = list(params.catIds)
        self._iou_thrs = params.iouThrs
        self._recalls = params.recThrs
        per_image = iter(evaluator.evalImgs)
        # In pycocotools' order: classes, then area ranges, then images.
        self._matches: list[dict[str, ClassMatches]] = [
            {
                area: _gather(
                    [next(per_image) for _ in self.img_ids], len(self._iou_thrs)
                )
                for area in AREAS
            }
            for _ in self.cat_ids
        ]

    def average_precision(
        self, area: str = 'all', weights: np.ndarray | None = None
    ) -> np.ndarray:
        """AP of each IoU threshold and class.

        Args:
            area: one of ``AREAS``.
            weights: int (I,), how often each image is there; once by default.
                The result is pycocotools' for a data set with so many copies of
                it side by side. Only the order of equal scores within one image,
                which is arbitrary, is another there.

        Returns:
            float64 (T, K); NaN for a class of which there is no object.
        """
        if weights is None:
            weights = np.ones(len(self.img_ids), np.int64)
        ap = [self._class_ap(matches[area], weights) for matches in self._matches]
        return np.stack(ap, axis=1) if ap else np.empty((len(self._iou_thrs), 0))

    def summarize(self, weights: np.ndarray | None = None) -> dict[str, float]:
        """The numbers of a model zoo, in [0, 1]; NaN where there are no objects."""
        ap = {area: self.average_precision(area, weights) for area in AREAS}
        return {
            name: _mean(ap[area] if thr is None else ap[area][self._iou_thrs == thr])
            for name, (thr, area) in METRICS.items()
        }

    def _class_ap(self, matches: ClassMatches, weights: np.ndarray) -> np.ndarray:
        """AP of one class at each IoU threshold, float64 (T,)."""
        objects = matches.objects @ weights
        if objects == 0:
            return np.full(len(self._iou_thrs), np.nan)
        ap = np.zeros(len(self._iou_thrs))
        weight = weights[matches.image]
        counted = np.cumsum(weight * matches.counted, axis=1)
        for t, right in enumerate(matches.right):
            ap[t] = precision_at_recalls(
                np.cumsum(weight[right]), counted[t, right], objects, self._recalls
            ).mean()
        return ap


def precision_at_recalls(
    right: np.ndarray, counted: np.ndarray, objects: int, recalls: np.ndarray = RECALLS
) -> np.ndarray:
    """COCO's precision-recall curve, at given recalls.

    Precision is highest, and recall rises, at detections that are right: the
    curve needs no others.

    Args:
        right: (R,) of each detection that is right, by falling score: how many
            are right up to it.
        counted: (R,) how many there are up to it, right or wrong.
        objects: that are to be found, at least 1.
        recalls: (P,) rising.

    Returns:
        (P,) the best precision from each recall on, 0 where it is not reached.
    """
    precision = right / (counted + np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(right / objects, recalls, side='left')
    return np.append(envelope, 0.0)[at]


def average_precision(scores: np.ndarray, right: np.ndarray, objects: int) -> float:
    """COCO's AP of one class at one IoU.

    Args:
        scores: (D,) of the detections that count.
        right: (D,) bool, which of them have found an object.
        objects: that are to be found, at least 1.
    """
    right = right[np.argsort(-scores, kind='stable')]
    at = np.flatnonzero(right)
    return float(
        precision_at_recalls(np.arange(1, len(at) + 1), at + 1, objects).mean()
    )


def _mean(ap: np.ndarray) -> float:
    """Mean over the classes that have objects."""
    ap = ap[~np.isnan(ap)]
    return float(ap.mean()) if ap.size else float('nan')


@quiet_pycocotools()
def _evaluate(
    coco: COCO, detections: Sequence[dict], cat_ids: Sequence[int] | None
) -> COCOeval:
    """pycocotools' matching, without what it prints."""
    if detections:
        # pycocotools adds to the dicts that it is given.
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


def _gather(per_image: list[dict | None], thresholds: int) -> ClassMatches:
    """One class and area range of all images, as pycocotools' ``accumulate``."""
    objects = np.zeros(len(per_image), np.int64)
    scores, image = [np.empty(0)], [np.empty(0, np.int64)]
    matched, ignored = (
        [np.empty((thresholds, 0), bool)],
        [np.empty((thresholds, 0), bool)],
    )
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
