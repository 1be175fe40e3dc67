"""The objects of an image, and the anchors of each level that train on them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from torch import Tensor

from focal_retinanet.anchors.assignment import Assignment, Kind
from focal_retinanet.visualization import style
from focal_retinanet.visualization.boxes import draw_boxes, show_image
from focal_retinanet.visualization.labels.artists import add_labels

OBJECT_COLOR = style.PALETTE[7]
_LOW_QUALITY = style.PALETTE[1]
_DASHED = (0, (3, 1.2))  # short, for boxes of a few pixels
#: Colour, line style and name of each kind of object, the best first.
OBJECT_LOOKS = {
    Kind.COVERED: (style.TRUE_POSITIVE, '-', 'has anchors'),
    Kind.LOW_QUALITY: (_LOW_QUALITY, _DASHED, 'low-quality matches only'),
    Kind.NONE: (style.MISSED, ':', 'no anchor'),
}
# Colour and line style of each kind of anchor, in the order of drawing.
_ANCHOR_LOOKS = {
    'ignored': (style.IGNORED, ':'),
    'positive': (style.TRUE_POSITIVE, '-'),
    'low quality': (_LOW_QUALITY, _DASHED),
}
_PANEL_WIDTH = 3.3  # inches
# Among more objects than this, the covered ones have no label.
_MOST_LABELS = 20


def save_assignment_picture(
    file: str | Path,
    image: np.ndarray,
    assignment: Assignment | None,
    gt_bboxes: Tensor,
    labels: Sequence[str],
    title: str,
    strides: Sequence[int] = (),
    crowds: Tensor | None = None,
) -> Path:
    """Draw the objects of an image, and beside them the anchors of each level.

    Args:
        file: PNG, SVG or PDF to write.
        image: (H, W, 3) uint8 RGB, the input of the network, with its padding.
        assignment: Assignment of this image; None draws the objects alone.
        gt_bboxes: (M, 4) xyxy in pixels of the image.
        labels: Class name of each object, in any script.
        title: Title of the figure.
        strides: Stride of each level, in pixels.
        crowds: (C, 4) xyxy, ignored regions.
    """
    levels = []
    if assignment is not None:
        in_use = assignment.positive | assignment.ignored
        levels = assignment.level[in_use].unique().tolist()
    columns = min(3, 1 + len(levels))
    rows = -(-(1 + len(levels)) // columns)
    aspect = image.shape[0] / image.shape[1]
    width = max(4.5, columns * _PANEL_WIDTH)
    has_legend = assignment is not None and len(gt_bboxes) > 0
    height = rows * (width / columns * aspect + 0.2) + (0.7 if has_legend else 0.3)
    with style.new_figure(width, height) as figure:
        figure.suptitle(style.plain(title), fontsize=9)
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes in panels:
            axes.set_axis_off()
        _draw_objects(panels[0], image, assignment, gt_bboxes, crowds)
        for axes, level in zip(panels[1:], levels, strict=False):
            _draw_level(axes, image, assignment, level, strides[level])
        if has_legend:
            figure.legend(
                handles=_legend(),
                loc='outside lower center',
                ncols=4 if columns > 1 else 2,
                fontsize=8 if columns > 2 else 6.5,
                columnspacing=1.5,
                handlelength=2.5,
            )
        _label_objects(panels[0], assignment, gt_bboxes, labels)
        return style.save_figure(figure, file)


def _draw_objects(
    axes: Axes,
    image: np.ndarray,
    assignment: Assignment | None,
    gt_bboxes: Tensor,
    crowds: Tensor | None,
) -> None:
    show_image(axes, image, interpolation='nearest')
    count = len(gt_bboxes)
    title = f'{count} object' if count == 1 else f'{count} objects'
    if crowds is not None:
        draw_boxes(axes, crowds, style.IGNORED, '-.')
    if assignment is None:
        axes.set_title(title, fontsize=8)
        draw_boxes(axes, gt_bboxes, style.TRUE_POSITIVE)
        return
    axes.set_title(f'{title}; number: best IoU', fontsize=8)
    for kind, (color, line, _) in OBJECT_LOOKS.items():
        draw_boxes(axes, gt_bboxes[assignment.kinds == kind], color, line, 1.2)


def _label_objects(
    axes: Axes, assignment: Assignment | None, gt_bboxes: Tensor, labels: Sequence[str]
) -> None:
    """Write the class and best IoU of each object if there is room, the worst first."""
    has_few = len(gt_bboxes) <= _MOST_LABELS
    if assignment is None:
        order = range(len(gt_bboxes) if has_few else 0)
        texts = list(labels)
        colours = [style.TRUE_POSITIVE] * len(texts)
    else:
        kinds = [Kind(kind) for kind in assignment.kinds.tolist()]
        texts = [f'{iou:.2f}' for iou in assignment.best_iou.tolist()]
        if len(set(labels)) > 1:
            texts = [' '.join(both) for both in zip(labels, texts, strict=True)]
        colours = [OBJECT_LOOKS[kind][0] for kind in kinds]
        order = [
            index
            for kind in (Kind.NONE, Kind.LOW_QUALITY, *([Kind.COVERED] * has_few))
            for index in range(len(kinds))
            if kinds[index] == kind
        ]
    add_labels(
        axes,
        gt_bboxes[list(order)].numpy(),
        [texts[index] for index in order],
        [colours[index] for index in order],
        size=4.5,
    )


def _draw_level(
    axes: Axes, image: np.ndarray, assignment: Assignment, level: int, stride: int
) -> None:
    at_level = assignment.level == level
    by_kind = {
        'positive': at_level & assignment.positive & ~assignment.low_quality,
        'low quality': at_level & assignment.low_quality,
        'ignored': at_level & assignment.ignored,
    }
    faded = image + (255 - image.astype(np.float32)) * 0.55
    show_image(axes, faded.astype(np.uint8), interpolation='nearest')
    counts = [f'{int(is_kind.sum())} {kind}' for kind, is_kind in by_kind.items()]
    counts = [count for count in counts if not count.startswith('0 ')]
    axes.set_title(f'stride {stride}: {", ".join(counts)}', fontsize=8)
    draw_boxes(axes, assignment.gt_bboxes, OBJECT_COLOR, width=0.9)
    for kind, (color, line) in _ANCHOR_LOOKS.items():
        boxes = assignment.anchors[by_kind[kind]]
        # Many anchors overlap: the more there are, the more each lets through.
        least, width = (0.6, 0.5) if kind == 'ignored' else (0.35, 0.7)
        alpha = min(0.9, max(least, 30 / max(1, len(boxes))))
        draw_boxes(axes, boxes, color, line, width, alpha=alpha)


def _legend() -> list[Line2D]:
    """Handles in columns of two: objects in the upper row, anchors in the lower."""
    objects = [
        Line2D([], [], color=color, ls=line, lw=1.6, label=f'object: {words}')
        for color, line, words in OBJECT_LOOKS.values()
    ]
    anchors = {
        kind: Line2D([], [], color=color, ls=line, lw=1.0, label=f'anchor: {kind}')
        for kind, (color, line) in _ANCHOR_LOOKS.items()
    }
    objects.append(
        Line2D([], [], color=OBJECT_COLOR, lw=1.2, label='object, beside anchors')
    )
    rows = zip(objects, ('positive', 'low quality', 'ignored'), strict=False)
    pairs = [handle for one, kind in rows for handle in (one, anchors[kind])]
    return [*pairs, objects[-1]]
