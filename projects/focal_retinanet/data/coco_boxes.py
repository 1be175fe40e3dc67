"""Boxes of a COCO file, compared with their images."""

from collections.abc import Sequence
from itertools import chain, compress

import numpy as np

from focal_retinanet.cli.naming import few

#: Pixels by which a box may leave its image without a warning, due to rounding.
TOLERANCE = 1.0
#: Share of boxes that must fit another format before that format is suggested.
_MOST = 0.95


def are_usable(
    boxes: Sequence[Sequence[float]],
    areas: Sequence[float],
    sizes: Sequence[tuple[float, float]],
) -> np.ndarray:
    """Return which boxes mmdet uses, by the conditions of its CocoDataset.

    Args:
        boxes: N boxes xywh in absolute pixels.
        areas: N areas in square pixels.
        sizes: (width, height) of each box's image; (0, 0) if it has no image.

    Returns:
        (N,) bool; False for a box that is narrower or lower than a pixel, outside of
        its image, has an area of 0, or contains NaN.
    """
    bboxes, sizes = as_array(boxes, 4), as_array(sizes, 2)
    has_area = np.array([not area <= 0 for area in areas], dtype=bool)
    low, extent = bboxes[:, :2], bboxes[:, 2:]
    is_inside = np.minimum(low + extent, sizes) > np.maximum(low, 0)
    return (is_inside & (extent >= 1)).all(1) & has_area


def describe_left_out(
    ids: Sequence,
    usable: np.ndarray,
    boxes: Sequence[Sequence[float]],
    areas: Sequence[float],
) -> str | None:
    """Describe the boxes that are left out and the likely cause, if there are any.

    Args:
        ids: Ids of N annotations.
        usable: (N,) bool, see :func:`are_usable`.
        boxes: N boxes xywh in absolute pixels.
        areas: N areas in square pixels.
    """
    if usable.all():
        return None
    cause = ''
    numbers = as_array(boxes, 4)
    are_flat = np.array([area <= 0 for area in areas], dtype=bool)
    if (are_flat & (numbers[:, 2:] >= 1).all(1))[~usable].all():
        cause = '; their boxes have an area: without the key, it is width times height'
    elif ((numbers >= 0) & (numbers <= 1)).all():
        cause = (
            '; all numbers are between 0 and 1: are they relative to the size of the '
            'image? COCO boxes are in pixels'
        )
    count = int((~usable).sum())
    faults = []
    is_nan = np.isnan(numbers[~usable]).any(1)
    if not is_nan.all():
        faults.append(
            'a box narrower or lower than a pixel, or outside of its image, or an area '
            'of 0'
        )
    if is_nan.any():
        faults.append('NaN in its box, which is not a number')
    return (
        f'annotation {few(compress(ids, ~usable))} has {", or ".join(faults)} ({count} '
        f'of {len(ids)}); it is left out, in training and in AP{cause}'
    )


def describe_leaving(
    ids: Sequence,
    boxes: Sequence[Sequence[float]],
    sizes: Sequence[tuple[float, float]],
) -> str | None:
    """Describe the boxes that leave their image and the likely cause, if any do.

    Args:
        ids: Ids of N annotations.
        boxes: N boxes xywh in absolute pixels.
        sizes: (width, height) of each box's image.
    """
    bboxes, image_sizes = as_array(boxes, 4), as_array(sizes, 2)
    low, extent = bboxes[:, :2], bboxes[:, 2:]
    ends = low + extent
    leaves = ((low < -TOLERANCE) | (ends > image_sizes + TOLERANCE)).any(1)
    if not leaves.any():
        return None
    first = int(leaves.argmax())
    width, height = image_sizes[first]
    x, y, *_ = bboxes[first]
    right, bottom = ends[first]
    # Whether the numbers are boxes inside their images in one of two other formats.
    as_corners = (extent > low) & (extent <= image_sizes + TOLERANCE)
    as_centers = (low >= extent / 2 - TOLERANCE) & (
        low + extent / 2 <= image_sizes + TOLERANCE
    )
    if as_corners.all(1).mean() >= _MOST:
        cause = 'these look like [x1, y1, x2, y2], but COCO has [x, y, width, height]'
    elif as_centers.all(1).mean() >= _MOST:
        cause = (
            'these look like [center x, center y, width, height], but COCO has x and y '
            'of the upper left corner'
        )
    else:
        cause = "are width and height those of the file's images?"
    return (
        f'{int(leaves.sum())} of {len(ids)} boxes leave their image, such as '
        f'{bboxes[first].tolist()} of annotation {ids[first]}, which goes from '
        f'({x:g}, {y:g}) to ({right:g}, {bottom:g}) in an image of {width:g}x{height:g}; '
        f'{cause}'
    )


def as_array(rows: Sequence[Sequence[float]] | np.ndarray, width: int) -> np.ndarray:
    """Return an (N, width) float64 array; an array is returned unchanged."""
    if isinstance(rows, np.ndarray):
        return rows
    numbers = chain.from_iterable(rows)
    return np.fromiter(numbers, float, width * len(rows)).reshape(-1, width)
