"""The images that a detector is worst at, and what each kind of error costs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from focal_retinanet.evaluation.detection_errors import (
    ERRORS,
    MISSED,
    ImageDetections,
    cost_of_errors,
    image_ap50,
)


@dataclass(frozen=True)
class RankedImage:
    """An image's detections, and in words why the image is among the worst."""

    detections: ImageDetections
    title: str


def worst_images(
    images: Sequence[ImageDetections], score_thr: float, most: int
) -> dict[str, list[RankedImage]]:
    """Rank images by two measures, the worst first.

    Args:
        images: Images with their detections.
        score_thr: Lowest score of a detection that finds an object.
        most: Largest number of images of each ranking.

    Returns:
        ``lowest_ap50``: images with objects; ``most_missed``: images with missed
        objects.
    """
    ranked = []
    for image in images:
        ap, missed = image_ap50(image), int(image.not_found(score_thr).sum())
        objects = int((~image.gt_crowd).sum())
        title = f'AP50 {100 * ap:.0f} %, {missed} of {objects} objects missed'
        ranked.append((ap, missed, RankedImage(image, title)))
    orders = {
        'lowest_ap50': sorted(
            (row for row in ranked if not np.isnan(row[0])), key=lambda row: row[0]
        ),
        'most_missed': sorted(
            (row for row in ranked if row[1]), key=lambda row: -row[1]
        ),
    }
    return {name: [row[2] for row in order[:most]] for name, order in orders.items()}


def errors_table(
    images: Sequence[ImageDetections], score_thr: float
) -> list[list[str]]:
    """Return rows of text, the heads first: number and cost of each kind of error.

    Args:
        images: Images with their detections.
        score_thr: Lowest score of the second number; the first is over all scores.
    """
    costs = cost_of_errors(images)
    rows = [
        [
            'error',
            f'number from {score_thr:g}',
            'number at any score',
            f'AP50 without it ({100 * costs["AP50"]:.1f} with all)',
        ]
    ]
    for error in ERRORS:
        cost = 100 * costs[error]
        without = f'{100 * costs["AP50"] + cost:.1f} ({cost:+.1f})'
        rows.append(
            [
                error,
                f'{_count(images, error, score_thr):,}',
                f'{_count(images, error, -np.inf):,}',
                # NaN: without the missed objects there are none.
                '-' if np.isnan(cost) else without,
            ]
        )
    return rows


def _count(images: Sequence[ImageDetections], error: str, score_thr: float) -> int:
    """Number of errors of a kind, with detections from a score on."""
    if error == MISSED:
        return sum(int(image.missed_from(score_thr).sum()) for image in images)
    return sum(
        int((image.is_kind(error) & (image.scores >= score_thr)).sum())
        for image in images
    )
