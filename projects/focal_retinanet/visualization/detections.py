"""Detections beside the ground truth: what is right, what is wrong, what is missed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from focal_retinanet.evaluation.detection_errors import (
    CORRECT,
    IGNORED,
    KINDS,
    ImageDetections,
)
from focal_retinanet.visualization import style
from focal_retinanet.visualization.labels.drawing import draw_labels
from focal_retinanet.visualization.labels.placement import best_last, label_text

#: How each kind of box looks: colour, and line style for those who see no colours.
_LOOKS = {
    'correct': (style.TRUE_POSITIVE, '-'),
    'wrong': (style.FALSE_POSITIVE, '--'),
    'missed': (style.MISSED, ':'),
    'found': (style.TRUE_POSITIVE, '-'),
    'ignored': (style.IGNORED, '-.'),
}
#: Of a picture of two images side by side, in inches.
_WIDTH = 10.0
#: Letters of the labels, in points.
_LETTERS = 7.0


@dataclass(frozen=True)
class _Box:
    """A box (4,) xyxy that is drawn, its look, its label and score if it has them."""

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
    """Ground truth on the left, detections on the right.

    Objects that are not found are marked on both sides; detections that are
    wrong say in which way. No label lies over another: of those that have no room
    the best are there.

    Args:
        image: (H, W, 3) uint8 RGB.
        detections: of this image, in its pixels.
        classes: names of the category ids, in any script.
        score_thr: lowest score that counts.
        title: of the picture.
        dpi: dots per inch, of 10 inches.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    with style.new_figure(_WIDTH, _WIDTH / 2 * height / width + 0.8) as figure:
        left, right = figure.subplots(1, 2)
        _show(left, image, 'ground truth')
        _show(right, image, f'detections, score ≥ {score_thr:g}')
        sides = [
            (left, _objects(detections, classes, score_thr)),
            (right, _found(detections, classes, score_thr)),
        ]
        for axes, boxes in sides:
            _draw_boxes(axes, boxes)
        figure.suptitle(style.plain(title))
        _add_legend(figure, ('correct', 'wrong', 'missed', 'ignored'))
        picture = style.as_array(figure, dpi)
        # Where the images are in it is known after that.
        for axes, boxes in sides:
            _write_labels(picture, axes, boxes, round(_LETTERS * dpi / 72))
        return picture


def draw_grid(
    images: Sequence[np.ndarray],
    detections: Sequence[ImageDetections],
    titles: Sequence[str],
    score_thr: float = 0.3,
    columns: int = 4,
) -> np.ndarray:
    """Many images on one sheet: detections and missed objects, without names.

    Args:
        images: each (H, W, 3) uint8 RGB.
        detections: of each image.
        titles: of each image.
        score_thr: lowest score that counts.
        columns: of the sheet.

    Returns:
        (h, w, 3) uint8 RGB, about 2000 pixels wide.
    """
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    cell = _WIDTH / columns
    tallest = max(image.shape[0] / image.shape[1] for image in images)
    with style.new_figure(_WIDTH, rows * (cell * tallest + 0.3) + 0.4) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, image, found, title in zip(
            grid.flat, images, detections, titles, strict=False
        ):
            axes.set_axis_on()
            _show(axes, image, title)
            _draw_boxes(axes, _found(found, None, score_thr))
        _add_legend(figure, ('correct', 'wrong', 'missed', 'ignored'))
        return style.as_array(figure)


def _show(axes: Axes, image: np.ndarray, title: str) -> None:
    axes.imshow(image)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.set_title(style.plain(title))
    # Labels of boxes at the border stay inside the picture.
    axes.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))


def _objects(
    detections: ImageDetections, classes: Mapping[int, str], score_thr: float
) -> list[_Box]:
    """The objects, those that are not found last."""
    not_found = detections.not_found(score_thr)
    boxes = [
        _Box(
            box,
            'ignored' if crowd else 'missed' if not_found[index] else 'found',
            classes[int(category)],
        )
        for index, (box, category, crowd) in enumerate(
            zip(
                detections.gt_bboxes,
                detections.gt_category_ids,
                detections.gt_crowd,
                strict=True,
            )
        )
    ]
    return sorted(boxes, key=lambda one: one.look == 'missed')


def _found(
    detections: ImageDetections, classes: Mapping[int, str] | None, score_thr: float
) -> list[_Box]:
    """Detections, wrong ones before right ones, each with the best last.

    After them come the objects that are not found, dotted, so that a detection in
    the same place is seen through them.

    Args:
        classes: names of the category ids; None gives boxes without labels.
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


def _draw_boxes(axes: Axes, boxes: Sequence[_Box]) -> None:
    for one in boxes:
        colour, line = _LOOKS[one.look]
        x1, y1, x2, y2 = one.box
        # On a white border, so that it is seen on any image.
        border = withStroke(linewidth=2.6, foreground='white', alpha=0.8)
        axes.add_patch(
            Rectangle(
                *((x1, y1), x2 - x1, y2 - y1),
                fill=False,
                edgecolor=colour,
                linestyle=line,
                linewidth=1.4,
                path_effects=[border],
            )
        )


def _write_labels(
    picture: np.ndarray, axes: Axes, boxes: Sequence[_Box], size: int
) -> None:
    """Labels on the pixels of a drawn figure, (h, w, 3) uint8 RGB.

    Args:
        axes: one of its axes, with an image.
        boxes: boxes in that image; of equal scores the last has its label first.
        size: size of the letters in pixels.
    """
    labelled = [one for one in reversed(boxes) if one.text]
    labelled.sort(key=lambda one: -one.score)
    if not labelled:
        return
    height = picture.shape[0]  # matplotlib counts from below
    left, low, right, high = np.round(axes.get_window_extent().extents).astype(int)
    corners = np.array([one.box for one in labelled], float).reshape(-1, 2)
    x, y = axes.transData.transform(corners).T
    draw_labels(
        picture[height - high : height - low, left:right],
        np.stack([x - left, high - y], axis=1).reshape(-1, 4),
        [one.text for one in labelled],
        [_rgb(_LOOKS[one.look][0]) for one in labelled],
        [size] * len(labelled),
    )


def _rgb(colour: str) -> tuple[int, int, int]:
    return tuple(round(255 * part) for part in to_rgb(colour))


def _add_legend(figure: Figure, looks: Sequence[str]) -> None:
    figure.legend(
        handles=[
            Line2D([], [], color=_LOOKS[look][0], linestyle=_LOOKS[look][1], label=look)
            for look in looks
        ],
        loc='outside lower center',
        ncols=len(looks),
    )
