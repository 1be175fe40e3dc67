"""Which classes a detector takes for each other."""

from collections.abc import Sequence

import numpy as np
from pycocotools import mask

from focal_retinanet.evaluation.detection_errors import (
    CORRECT,
    FOREGROUND_IOU,
    IGNORED,
    ImageDetections,
    to_xywh,
)

#: Name of the last row and of the last column.
NOTHING = 'nothing'
#: Largest number of classes of which the whole matrix is shown.
MOST_CLASSES = 20
#: Number of pairs that are shown instead.
MOST_PAIRS = 15


def confusion_matrix(
    images: Sequence[ImageDetections], cat_ids: Sequence[int], score_thr: float
) -> np.ndarray:
    """Return how often an object of a class is found as each class.

    Detections of the right class match first, as in COCO's evaluation. Each other
    detection, the best score first, then takes the free object of another class with
    which its IoU is highest, if it is at least 0.5. Crowds do not count.

    Args:
        images: Detections of all images.
        cat_ids: Ids of the K categories, in the order of the rows.
        score_thr: Lowest score of a detection that counts.

    Returns:
        int64 (K + 1, K + 1): objects of a class (rows) by the class of their detection
        (columns). The last column has objects that nothing has found, the last row has
        detections on nothing. A row adds up to the objects of its class, a column to
        the detections of its class.
    """
    number = {cat_id: index for index, cat_id in enumerate(cat_ids)}
    nothing = len(number)
    matrix = np.zeros((nothing + 1, nothing + 1), np.int64)
    for image in images:
        found_as = _match(image, score_thr)
        kept = (image.scores >= score_thr) & ~image.is_kind(IGNORED)
        for index in np.flatnonzero(~image.gt_crowd):
            row = number[int(image.gt_category_ids[index])]
            detection = found_as[index]
            if detection < 0:
                matrix[row, nothing] += 1
            else:
                matrix[row, number[int(image.category_ids[detection])]] += 1
                kept[detection] = False
        for category in image.category_ids[kept]:
            matrix[nothing, number[int(category)]] += 1
    return matrix


def confusion_table(matrix: np.ndarray, names: Sequence[str]) -> list[list[str]]:
    """Return rows of text, the heads first: the matrix, or its most frequent errors.

    Args:
        matrix: Result of :func:`confusion_matrix`.
        names: Names of the classes in its order.
    """
    labels = [*names, NOTHING]
    if len(names) <= MOST_CLASSES:
        body = [
            [label, *(f'{count:,}' for count in row)]
            for label, row in zip(labels, matrix.tolist(), strict=True)
        ]
        body[-1][-1] = ''  # nothing found as nothing
        return [['object \\ found as', *labels], *body]
    wrong = matrix * (1 - np.eye(len(labels), dtype=int))
    order = np.argsort(-wrong, axis=None, kind='stable')[:MOST_PAIRS]
    rows, columns = np.unravel_index(order, wrong.shape)
    pairs = [
        [labels[row], labels[column], f'{wrong[row, column]:,}']
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if wrong[row, column]
    ]
    return [['object', 'found as', 'number'], *pairs]


def _match(image: ImageDetections, score_thr: float) -> np.ndarray:
    """Index of the detection of each object, or -1, (G,)."""
    free = image.not_found(score_thr)
    found_as = np.where(free | image.gt_crowd, -1, image.found_by)
    if not len(image.bboxes) or not free.any():
        return found_as
    crowd = image.gt_crowd.astype(np.uint8)
    iou = mask.iou(to_xywh(image.bboxes), to_xywh(image.gt_bboxes), crowd)
    others = ~image.is_kind(CORRECT) & ~image.is_kind(IGNORED)
    for index in np.flatnonzero(others & (image.scores >= score_thr)):
        other = image.gt_category_ids != image.category_ids[index]
        candidates = np.where(free & other, iou[index], 0)
        best = int(candidates.argmax())
        if candidates[best] >= FOREGROUND_IOU:
            found_as[best] = index
            free[best] = False
    return found_as
