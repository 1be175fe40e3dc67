"""Places for the labels of boxes, so that no label lies over another."""

import numpy as np


def place_labels(
    boxes: np.ndarray, sizes: np.ndarray, image_size: tuple[int, int]
) -> np.ndarray:
    """Place labels beside or in their boxes, one after the other.

    Each label takes the first free place: above its box, below it, in it, right or
    left of it. A label without a free place is left out; the first one never is.

    Args:
        boxes: (N, 4) xyxy in pixels of the image, the most important ones first.
        sizes: (N, 2) width and height of the labels in the same pixels. Larger
            labels count as large as the image.
        image_size: Width and height of the image.

    Returns:
        (N, 4) xyxy of the labels, within the image; NaN for a label without a place.
    """
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    limits = np.asarray(image_size, float)
    sizes = np.minimum(np.asarray(sizes, float).reshape(-1, 2), limits)
    placed = np.full((len(boxes), 4), np.nan)
    for index, (box, size) in enumerate(zip(boxes, sizes, strict=True)):
        tries = _tries(box, size, limits)  # (T, 4)
        before = placed[:index]  # comparisons with NaN give False
        overlaps = (
            (tries[:, None, 0] < before[:, 2])
            & (before[:, 0] < tries[:, None, 2])
            & (tries[:, None, 1] < before[:, 3])
            & (before[:, 1] < tries[:, None, 3])
        ).any(1)
        free = np.flatnonzero(~overlaps)
        if len(free):
            placed[index] = tries[free[0]]
    return placed


def _tries(box: np.ndarray, size: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """(T, 4) places within the image, the best first."""
    (x1, y1, x2, y2), (width, height) = box, size
    corners = np.array(
        [
            (x1, y1 - height),  # above, left
            (x1, y2),  # below, left
            (x1, y1),  # inside, top left
            (x2 - width, y1 - height),  # above, right
            (x2 - width, y2),  # below, right
            (x2 - width, y1),  # inside, top right
            (x1, y2 - height),  # inside, bottom left
            (x2 - width, y2 - height),  # inside, bottom right
            (x2, y1),  # right
            (x1 - width, y1),  # left
            (x2, y2 - height),
            (x1 - width, y2 - height),
        ]
    )
    room = limits - size
    moved = corners.clip(0, room)
    # A place that has to move up or down is no longer at its box: it comes last.
    order = np.argsort(moved[:, 1] != corners[:, 1], kind='stable')
    return np.concatenate([moved, np.minimum(moved + size, limits)], axis=1)[order]
