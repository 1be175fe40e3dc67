"""Detections beside the ground truth: what is right, what is wrong, what is missed."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
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
    wrong say in which way.

    Args:
        image: (H, W, 3) uint8 RGB.
        detections: of this image, in its pixels.
        classes: names of the category ids.
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
        _draw_objects(left, detections, classes, score_thr)
        _show(right, image, f'detections, score ≥ {score_thr:g}')
        _draw_found(right, detections, classes, score_thr)
        figure.suptitle(title)
        _add_legend(figure, ('correct', 'wrong', 'missed', 'ignored'))
        return style.as_array(figure, dpi)


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
            _draw_found(axes, found, None, score_thr)
        _add_legend(figure, ('correct', 'wrong', 'missed', 'ignored'))
        return style.as_array(figure)


def _show(axes: Axes, image: np.ndarray, title: str) -> None:
    axes.imshow(image)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.set_title(title)
    # Labels of boxes at the border stay inside the picture.
    axes.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))


def _draw_objects(
    axes: Axes,
    detections: ImageDetections,
    classes: Mapping[int, str],
    score_thr: float,
) -> None:
    not_found = detections.not_found(score_thr)
    for index, (box, category, crowd) in enumerate(
        zip(
            detections.gt_bboxes,
            detections.gt_category_ids,
            detections.gt_crowd,
            strict=True,
        )
    ):
        look = 'ignored' if crowd else 'missed' if not_found[index] else 'found'
        _draw_box(axes, box, look, classes[int(category)])


def _draw_found(
    axes: Axes,
    detections: ImageDetections,
    classes: Mapping[int, str] | None,
    score_thr: float,
) -> None:
    shown = np.flatnonzero(detections.scores >= score_thr)
    for index in shown[::-1]:  # the best scores on top
        kind = KINDS[detections.kinds[index]]
        look = kind if kind in (CORRECT, IGNORED) else 'wrong'
        text = ''
        if classes is not None:
            name = classes[int(detections.category_ids[index])]
            text = f'{name} {detections.scores[index]:.2f}'
            if look == 'wrong':
                text += f'\n{kind}'
        _draw_box(axes, detections.bboxes[index], look, text)
    for box in detections.gt_bboxes[detections.not_found(score_thr)]:
        _draw_box(axes, box, 'missed')


def _draw_box(axes: Axes, box: np.ndarray, look: str, text: str = '') -> None:
    colour, line = _LOOKS[look]
    x1, y1, x2, y2 = box
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
    if text:
        axes.text(
            *(x1, y1),
            text,
            color=colour,
            fontsize=7,
            # Above the box, unless the image ends there.
            va='bottom' if y1 > 0.05 * axes.get_ylim()[0] else 'top',
            clip_on=True,
            linespacing=0.9,
            path_effects=[withStroke(linewidth=1.5, foreground='white')],
        )


def _add_legend(figure: Figure, looks: Sequence[str]) -> None:
    figure.legend(
        handles=[
            Line2D([], [], color=_LOOKS[look][0], linestyle=_LOOKS[look][1], label=look)
            for look in looks
        ],
        loc='outside lower center',
        ncols=len(looks),
    )
