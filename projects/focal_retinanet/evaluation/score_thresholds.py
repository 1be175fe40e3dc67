"""Precision, recall and F1 over the score threshold, and the threshold of the best F1.

Detections match objects as in COCO's evaluation, at an IoU of 0.5. pycocotools and
faster-coco-eval give the precision at 101 recalls; here it is at every score.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from focal_retinanet.evaluation.detection_errors import (
    CORRECT,
    IGNORED,
    ImageDetections,
)

#: Thresholds that are compared, (101,): 0.00, 0.01, ..., 1.00.
THRESHOLDS = np.arange(101) / 100


class OperatingPoint(NamedTuple):
    """Numbers of a detector that keeps detections from a score on, in [0, 1].

    Precision is NaN without detections, recall and F1 are NaN without objects.
    """

    score_thr: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ScoredDetections:
    """Detections of a class, or of all classes, that are correct or wrong.

    Attributes:
        scores: (D,) scores, in any order.
        right: (D,) bool, whether each detection has found an object.
        objects: Number of objects.
    """

    scores: np.ndarray
    right: np.ndarray
    objects: int

    @cached_property
    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of correct and of all detections from each of ``THRESHOLDS`` on,
        int64 (101,) each."""
        return self._count(self.scores[self.right]), self._count(self.scores)

    @cached_property
    def curve(self) -> list[OperatingPoint]:
        """Operating points at ``THRESHOLDS``."""
        return [
            self._point(thr, right, found)
            for thr, right, found in zip(THRESHOLDS.tolist(), *self.counts, strict=True)
        ]

    @property
    def best(self) -> OperatingPoint | None:
        """The point of the best F1, in the middle of equal ones; None if all are 0."""
        f1 = np.array([point.f1 for point in self.curve])
        if not self.right.any() or not self.objects:
            return None
        best = np.flatnonzero(f1 == f1.max())
        return self.curve[best[(len(best) - 1) // 2]]

    def at(self, score_thr: float) -> OperatingPoint:
        """Return the point at a threshold, which need not be in ``THRESHOLDS``."""
        kept = self.scores >= score_thr
        return self._point(score_thr, self.right[kept].sum(), kept.sum())

    def _point(self, score_thr: float, right: int, found: int) -> OperatingPoint:
        nan = float('nan')
        return OperatingPoint(
            score_thr,
            float(right / found) if found else nan,
            float(right / self.objects) if self.objects else nan,
            # The harmonic mean of both, which is defined without detections too.
            float(2 * right / (found + self.objects)) if self.objects else nan,
        )

    @staticmethod
    def _count(scores: np.ndarray) -> np.ndarray:
        return len(scores) - np.searchsorted(np.sort(scores), THRESHOLDS)


def score_detections(
    images: Sequence[ImageDetections], cat_ids: Sequence[int]
) -> dict[int, ScoredDetections]:
    """Return the detections of each category. Those on crowds do not count."""
    kept = [~image.is_kind(IGNORED) for image in images]
    scores, right, classes = (
        np.concatenate([part[k] for part, k in zip(parts, kept, strict=True)])
        for parts in (
            [image.scores for image in images],
            [image.is_kind(CORRECT) for image in images],
            [image.category_ids for image in images],
        )
    )
    objects = np.concatenate([i.gt_category_ids[~i.gt_crowd] for i in images])
    return {
        cat_id: ScoredDetections(
            scores[classes == cat_id],
            right[classes == cat_id],
            int((objects == cat_id).sum()),
        )
        for cat_id in cat_ids
    }


def all_classes(by_class: Mapping[int, ScoredDetections]) -> ScoredDetections:
    """Return the detections of all classes together: each detection counts alike."""
    parts = by_class.values()
    return ScoredDetections(
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.right for part in parts]),
        sum(part.objects for part in parts),
    )


def thresholds_table(
    by_class: Mapping[int, ScoredDetections],
    names: Mapping[int, str],
    score_thr: float | None = None,
) -> list[list[str]]:
    """Return rows of text, the heads first: the best F1 of each class and of all.

    Args:
        by_class: Detections by their category.
        names: Names of the categories.
        score_thr: If given, the numbers at this threshold are there too.
    """
    numbers = ['F1', 'precision', 'recall']
    rows = [['class', 'objects', 'score of best F1', *numbers]]
    if score_thr is not None:
        rows[0] += [f'{name} at {score_thr:g}' for name in numbers]
    # Classes may have equal names.
    parts = [(names[cat_id], one) for cat_id, one in by_class.items()]
    if len(parts) > 1:
        parts.append(('all classes', all_classes(by_class)))
    for name, one in parts:
        best = one.best
        row = [name, f'{one.objects:,}']
        row += ['-'] if best is None else [f'{best.score_thr:.2f}']
        row += _percents(best)
        if score_thr is not None:
            row += _percents(one.at(score_thr))
        rows.append(row)
    return rows


def describe_best(by_class: Mapping[int, ScoredDetections]) -> str:
    """Return a sentence about the threshold of the best F1 of all classes together."""
    point = all_classes(by_class).best
    if point is None:
        return 'No object is found at any score, so no threshold is best.'
    f1, precision, recall = _percents(point)
    return (
        f'Best F1 of all classes: {f1} % at a score of {point.score_thr:.2f}, with '
        f'{precision} % precision and {recall} % recall.'
    )


def _percents(point: OperatingPoint | None) -> list[str]:
    """F1, precision and recall in percent; '-' if they are not defined."""
    if point is None:
        return ['-'] * 3
    values = (point.f1, point.precision, point.recall)
    return ['-' if np.isnan(value) else f'{100 * value:.1f}' for value in values]
