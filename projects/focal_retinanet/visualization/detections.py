"""Pictures of detections beside the ground truth: correct, wrong and missed ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from focal_retinanet.evaluation.detection_errors import (
    CORRECT,
    IGNORED,
    KINDS,
    ImageDetections,
)
from focal_retinanet.visualization import style
from focal_retinanet.visualization.boxes import best_last, draw_boxes, show_image
from focal_retinanet.visualization.labels.drawing import draw_labels, label_text
from focal_retinanet.visualization.palette import rgb

#: Colour of each kind of box, and line style for those who see no colours.
_LOOKS = {
    'correct': (style.TRUE_POSITIVE, '-'),
    'wrong': (style.FALSE_POSITIVE, '--'),
    'missed': (style.MISSED, ':'),
    'ignored': (style.IGNORED, '-.'),
}
#: Width of a picture, in inches.
_WIDTH = 10.0
#: Size of the labels' letters, in points.
_LETTERS = 7.0


@dataclass(frozen=True)
class _Box:
    """A box (4,) xyxy with its look, its label and its score."""

    box: np.ndarray
    look: str
    text: str = ''
    score: float = 0.0


def draw_detections(
    image: np.ndarray,
    detections: ImageDetections,
    classes: Mapping[int, str],
    score_thr: float = 0.3,
    title: str = '',
    dpi: int = 200,
) -> np.ndarray:
    """Draw the ground truth on the left and the detections on the right.

    Missed objects are marked on both sides. The labels of wrong detections name the
    kind of error. Labels do not overlap: without room, only the best have one.

    Args:
        image: (H, W, 3) uint8 RGB.
        detections: Detections of this image, in its pixels.
        classes: Names of the category ids, in any script.
        score_thr: Lowest score that counts.
        title: Title of the picture.
        dpi: Dots per inch; the picture is 10 inches wide.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    with style.new_figure(_WIDTH, _WIDTH / 2 * height / width + 0.8) as figure:
        left, right = figure.subplots(1, 2)
        sides = [
            (left, _objects(detections, classes, score_thr), 'ground truth'),
            (
                right,
                _detections(detections, classes, score_thr),
                f'detections, score ≥ {score_thr:g}',
            ),
        ]
        for axes, boxes, heading in sides:
            _draw(axes, image, boxes, heading)
        figure.suptitle(style.plain(title))
        _add_legend(figure)
        picture = style.as_array(figure, dpi)
        # Drawing has fixed the places of the images.
        for axes, boxes, _ in sides:
            _write_labels(picture, axes, boxes, round(_LETTERS * dpi / 72))
        return picture


def draw_grid(
    images: Sequence[np.ndarray],
    detections: Sequence[ImageDetections],
    titles: Sequence[str],
    score_thr: float = 0.3,
    columns: int = 4,
) -> np.ndarray:
    """Draw many images on one sheet: detections and missed objects, without labels.

    Args:
        images: (H, W, 3) uint8 RGB each.
        detections: Detections of each image.
        titles: Title of each image.
        score_thr: Lowest score that counts.
        columns: Number of columns of the sheet.

    Returns:
        (h, w, 3) uint8 RGB, about 2000 pixels wide.
    """
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    tallest = max(image.shape[0] / image.shape[1] for image in images)
    height = rows * (_WIDTH / columns * tallest + 0.3) + 0.4
    with style.new_figure(_WIDTH, height) as figure:
        grid = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, image, found, title in zip(
            grid, images, detections, titles, strict=False
        ):
            _draw(axes, image, _detections(found, None, score_thr), title)
        for axes in grid[len(images) :]:
            axes.set_axis_off()
        _add_legend(figure)
        return style.as_array(figure)


def _draw(axes: Axes, image: np.ndarray, boxes: Sequence[_Box], title: str) -> None:
    show_image(axes, image)
    axes.set_title(style.plain(title))
    looks = [_LOOKS[one.look] for one in boxes]
    draw_boxes(
        axes,
        [one.box for one in boxes],
        [colour for colour, _ in looks],
        [line for _, line in looks] or '-',
        width=1.4,
        halo=2.6,
    )


def _objects(
    detections: ImageDetections, classes: Mapping[int, str], score_thr: float
) -> list[_Box]:
    """The objects, with missed ones on top."""
    looks = np.where(detections.not_found(score_thr), 'missed', 'correct')
    looks = np.where(detections.gt_crowd, 'ignored', looks)
    names = [classes[int(category)] for category in detections.gt_category_ids]
    boxes = map(_Box, detections.gt_bboxes, looks, names)
    return sorted(boxes, key=lambda one: one.look == 'missed')


def _detections(
    detections: ImageDetections, classes: Mapping[int, str] | None, score_thr: float
) -> list[_Box]:
    """Wrong detections below correct ones, the best of each on top.

    Missed objects lie over them. They are dotted, so that a detection in the same
    place shows through.

    Args:
        classes: Names of the category ids; None gives boxes without labels.
    """
    boxes = []
    for index in best_last(detections.scores):
        score = detections.scores[index]
        if score < score_thr:
            continue
        kind = KINDS[detections.kinds[index]]
        look = kind if kind in (CORRECT, IGNORED) else 'wrong'
        text = ''
        if classes is not None:
            name = classes[int(detections.category_ids[index])]
            text = label_text(name, score) + (f'\n{kind}' if look == 'wrong' else '')
        boxes.append(_Box(detections.bboxes[index], look, text, score))
    order = (IGNORED, 'wrong', CORRECT)
    boxes.sort(key=lambda one: order.index(one.look))
    missed = detections.gt_bboxes[detections.not_found(score_thr)]
    return boxes + [_Box(box, 'missed') for box in missed]


def _write_labels(
    picture: np.ndarray, axes: Axes, boxes: Sequence[_Box], size: int
) -> None:
    """Write labels on the pixels of a drawn figure, (h, w, 3) uint8 RGB.

    Args:
        axes: Axes of the figure, with an image.
        boxes: Boxes in that image; of equal scores the last has its label first.
        size: Size of the letters in pixels.
    """
    labelled = [one for one in reversed(boxes) if one.text]
    labelled.sort(key=lambda one: -one.score)
    if not labelled:
        return
    height = picture.shape[0]  # matplotlib counts rows from below
    left, low, right, high = np.round(axes.get_window_extent().extents).astype(int)
    corners = np.array([one.box for one in labelled], float).reshape(-1, 2)
    x, y = axes.transData.transform(corners).T
    draw_labels(
        picture[height - high : height - low, left:right],
        np.stack([x - left, high - y], axis=1).reshape(-1, 4),
        [one.text for one in labelled],
        [rgb(_LOOKS[one.look][0]) for one in labelled],
        [size] * len(labelled),
    )


def _add_legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], color=colour, linestyle=line, label=look)
        for look, (colour, line) in _LOOKS.items()
    ]
    figure.legend(handles=handles, loc='outside lower center', ncols=len(handles))
