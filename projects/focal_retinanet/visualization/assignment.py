"""Which anchors train on which object: pictures of images, and of a data set."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator
from torch import Tensor

from focal_retinanet.anchors.assignment import AnchorRule, Assignment, Kind
from focal_retinanet.anchors.coverage import (
    Coverage,
    box_ratios,
    box_sizes,
    count_by_kind,
)
from focal_retinanet.visualization.labels.artists import add_labels
from focal_retinanet.visualization.style import (
    IGNORED,
    MISSED,
    PALETTE,
    TRUE_POSITIVE,
    new_figure,
    plain,
    save_figure,
)

_LOW_QUALITY = PALETTE[1]
_OBJECT = PALETTE[7]
_DASHED = (0, (3, 1.2))  # short, for boxes of a few pixels
# Colour and line style of each kind of object, and of each kind of anchor.
_KINDS = {
    Kind.COVERED: (TRUE_POSITIVE, '-', 'has anchors'),
    Kind.LOW_QUALITY: (_LOW_QUALITY, _DASHED, 'low-quality matches only'),
    Kind.NONE: (MISSED, ':', 'no anchor'),
}
_ANCHORS = {
    'ignored': (IGNORED, ':'),
    'positive': (TRUE_POSITIVE, '-'),
    'low quality': (_LOW_QUALITY, _DASHED),
}
_PANEL_WIDTH = 3.3  # inches
# With more objects than this, only those that are not covered have a label.
_MOST_LABELS = 20
_BINS_PER_OCTAVE = 4
_FLATTEST = 1 / 8
_RATIO_TICKS = ('<1/8', '1/4', '1/2', '1', '2', '4', '>8')
# For prints without colour.
_HATCHES = {Kind.COVERED: '', Kind.LOW_QUALITY: '////', Kind.NONE: 'xxxx'}


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
    """An image's objects, and beside them each pyramid level's anchors by kind.

    Args:
        file: PNG, SVG or PDF.
        image: (H, W, 3) uint8 RGB, what the network sees, perhaps padded.
        assignment: of this image; None draws the objects alone.
        gt_bboxes: (M, 4) xyxy in pixels of the image.
        labels: of each object, the name of its class, in any script.
        title: of the figure.
        strides: of each level, in pixels.
        crowds: (C, 4) xyxy, regions that are ignored.
    """
    levels = [] if assignment is None else _levels_in_use(assignment)
    columns = min(3, 1 + len(levels))
    rows = -(-(1 + len(levels)) // columns)
    aspect = image.shape[0] / image.shape[1]
    width = max(4.5, columns * _PANEL_WIDTH)
    has_legend = assignment is not None and len(gt_bboxes) > 0
    height = rows * (width / columns * aspect + 0.2) + (0.7 if has_legend else 0.3)
    with new_figure(width, height) as figure:
        figure.suptitle(plain(title), fontsize=9)
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        _draw_objects(panels[0], image, assignment, gt_bboxes, crowds)
        for axes, level in zip(panels[1:], levels, strict=False):
            _draw_level(axes, image, assignment, level, strides[level])
        for axes in panels[1 + len(levels) :]:
            axes.set_axis_off()
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
        return save_figure(figure, file)


def _levels_in_use(assignment: Assignment) -> list[int]:
    in_use = assignment.positive | assignment.ignored
    return assignment.level[in_use].unique().tolist()


def _draw_objects(
    axes: Axes,
    image: np.ndarray,
    assignment: Assignment | None,
    gt_bboxes: Tensor,
    crowds: Tensor | None,
) -> None:
    _show(axes, image, fade=0.0)
    if crowds is not None and len(crowds):
        _draw_boxes(axes, crowds, IGNORED, '-.', 1.0)
    if assignment is None:
        axes.set_title(_count_objects(gt_bboxes), fontsize=8)
        _draw_boxes(axes, gt_bboxes, TRUE_POSITIVE, '-', 1.0)
        return
    kinds = assignment.kinds
    axes.set_title(f'{_count_objects(gt_bboxes)}; number: best IoU', fontsize=8)
    for kind, (color, style, _) in _KINDS.items():
        _draw_boxes(axes, gt_bboxes[kinds == kind], color, style, 1.2)


def _label_objects(
    axes: Axes, assignment: Assignment | None, gt_bboxes: Tensor, labels: Sequence[str]
) -> None:
    """Class and best IoU of each object, the worst first, where there is room."""
    if assignment is None:
        order = range(len(gt_bboxes) if len(gt_bboxes) <= _MOST_LABELS else 0)
        texts = list(labels)
        colours = [TRUE_POSITIVE] * len(texts)
    else:
        kinds = assignment.kinds.tolist()
        several_classes = len(set(labels)) > 1
        texts = [
            f'{label} {iou:.2f}' if several_classes else f'{iou:.2f}'
            for label, iou in zip(labels, assignment.best_iou.tolist(), strict=True)
        ]
        colours = [_KINDS[Kind(kind)][0] for kind in kinds]
        order = [
            index
            for kind in (Kind.NONE, Kind.LOW_QUALITY, Kind.COVERED)
            for index in range(len(kinds))
            if kinds[index] == kind
            and (kind != Kind.COVERED or len(kinds) <= _MOST_LABELS)
        ]
    add_labels(
        axes,
        gt_bboxes[list(order)].numpy() - 0.5,  # as the boxes are drawn
        [texts[index] for index in order],
        [colours[index] for index in order],
        size=4.5,
    )


def _draw_level(
    axes: Axes, image: np.ndarray, assignment: Assignment, level: int, stride: int
) -> None:
    of_level = assignment.level == level
    by_kind = {
        'ignored': of_level & assignment.ignored,
        'positive': of_level & assignment.positive & ~assignment.low_quality,
        'low quality': of_level & assignment.low_quality,
    }
    _show(axes, image, fade=0.55)
    counts = [
        f'{int(by_kind[kind].sum())} {kind}'
        for kind in ('positive', 'low quality', 'ignored')
        if by_kind[kind].any()
    ]
    axes.set_title(f'stride {stride}: {", ".join(counts)}', fontsize=8)
    _draw_boxes(axes, assignment.gt_bboxes, _OBJECT, '-', 0.9)
    for kind, (color, style) in _ANCHORS.items():
        boxes = assignment.anchors[by_kind[kind]]
        # Many lie on each other: each lets the others through.
        least = 0.6 if kind == 'ignored' else 0.35
        alpha = min(0.9, max(least, 30 / max(1, len(boxes))))
        width = 0.5 if kind == 'ignored' else 0.7
        _draw_boxes(axes, boxes, color, style, width, alpha)


def _show(axes: Axes, image: np.ndarray, fade: float) -> None:
    """The image, ``fade`` of the way to white."""
    faded = image + (255 - image.astype(np.float32)) * fade
    axes.imshow(faded.astype(np.uint8), interpolation='nearest')
    axes.set_xlim(-0.5, image.shape[1] - 0.5)
    axes.set_ylim(image.shape[0] - 0.5, -0.5)
    axes.set_axis_off()


def _draw_boxes(
    axes: Axes,
    boxes: Tensor,
    color: str,
    style: str | tuple,
    width: float,
    alpha: float = 1.0,
) -> None:
    if not len(boxes):
        return
    # Pixel i covers [i - 0.5, i + 0.5] of the axes, [i, i + 1] of the boxes.
    left, top, right, bottom = (boxes.numpy() - 0.5).T
    outlines = np.stack(
        [left, top, right, top, right, bottom, left, bottom, left, top], axis=1
    ).reshape(-1, 5, 2)
    axes.add_collection(
        LineCollection(
            outlines, colors=color, linestyles=style, linewidths=width, alpha=alpha
        )
    )


def _count_objects(boxes: Tensor) -> str:
    return '1 object' if len(boxes) == 1 else f'{len(boxes)} objects'


def _legend() -> list[Line2D]:
    """By columns of two: objects in the upper row, anchors in the lower."""
    objects = [
        Line2D([], [], color=color, ls=style, lw=1.6, label=f'object: {words}')
        for color, style, words in _KINDS.values()
    ]
    positive, low_quality, ignored = (
        Line2D(
            *([], []),
            color=_ANCHORS[kind][0],
            ls=_ANCHORS[kind][1],
            lw=1.0,
            label=f'anchor: {kind}',
        )
        for kind in ('positive', 'low quality', 'ignored')
    )
    beside = Line2D([], [], color=_OBJECT, lw=1.2, label='object, beside anchors')
    return [objects[0], positive, objects[1], low_quality, objects[2], ignored, beside]


def save_coverage_figure(
    file: str | Path, coverage: Coverage, rule: AnchorRule | None
) -> Path:
    """Sizes, ratios and best IoUs of all objects, stacked by what they get.

    Args:
        file: PNG, SVG or PDF.
        coverage: of a data set with at least one object.
        rule: its anchors, whose sizes and ratios are marked; None draws the
            objects alone.
    """
    kinds = coverage.kinds
    levels: list[Tensor] = []
    if rule is None:
        kinds = torch.zeros(len(coverage), dtype=torch.int64)
    else:
        levels = list(rule.generator.base_anchors)
    with new_figure(6.4 if rule is None else 9.6, 3.4) as figure:
        # Hatches as thin as the rest; what is set here, new_figure sets back.
        mpl.rcParams['hatch.linewidth'] = 0.5
        panels = figure.subplots(1, 2 if rule is None else 3)

        sizes = coverage.sizes.clamp(min=2)
        edges = _octaves(torch.cat([sizes, *map(box_sizes, levels)]))
        _stack(panels[0], count_by_kind(sizes, kinds, edges), edges, rule)
        ticks = [2.0**i for i in range(1, 15)]
        _log_axis(panels[0], edges, ticks, [f'{x:g}' for x in ticks])
        panels[0].set_xlabel('size in the input, pixels (sqrt of area)')
        panels[0].set_ylabel('objects')
        for i, anchors in enumerate(levels):
            _mark(panels[0], box_sizes(anchors), 1.03 + 0.05 * i, str(rule.strides[i]))

        # What is flatter or taller counts in the outermost bins.
        ratios = coverage.ratios.clamp(_FLATTEST, 1 / _FLATTEST * 0.999)
        edges = _octaves(torch.tensor([_FLATTEST, 1 / _FLATTEST]))
        _stack(panels[1], count_by_kind(ratios, kinds, edges), edges, rule)
        _log_axis(panels[1], edges, [2.0**i for i in range(-3, 4)], _RATIO_TICKS)
        panels[1].set_xlabel('ratio, height / width')

        if rule is not None:
            _mark(panels[1], box_ratios(torch.cat(levels)), 1.03)
            edges = torch.linspace(0, 1, 21)
            counts = count_by_kind(coverage.best_iou, kinds, edges)
            _stack(panels[2], counts, edges, rule)
            thr = rule.assigner.pos_iou_thr
            panels[2].axvline(thr, color=_OBJECT, lw=1, ls='--')
            panels[2].set_xlim(0, 1)
            panels[2].set_xlabel('best IoU with any anchor')
            style = dict(color=_OBJECT, lw=1)
            figure.legend(
                handles=[
                    *(_patch(kind) for kind in Kind),
                    Line2D([], [], marker='|', ms=7, **style | dict(lw=0)),
                    Line2D([], [], ls='--', **style),
                ],
                labels=[
                    *(words for _, _, words in _KINDS.values()),
                    'anchors (number: stride)',
                    'IoU of a positive',
                ],
                loc='outside upper center',
                ncols=5,
            )
        return save_figure(figure, file)


def _patch(kind: Kind) -> Patch:
    return Patch(facecolor=_KINDS[kind][0], hatch=_HATCHES[kind], edgecolor='white')


def _octaves(values: Tensor) -> Tensor:
    """Bins of a quarter of an octave that hold all the values."""
    low, high = values.log2().min().floor(), values.log2().max().ceil()
    steps = int((high - low).clamp(min=1)) * _BINS_PER_OCTAVE
    return 2 ** (low + torch.arange(steps + 1) / _BINS_PER_OCTAVE)


def _stack(axes: Axes, counts: Tensor, edges: Tensor, rule: AnchorRule | None) -> None:
    """Bars of (3, B) counts of each kind, on top of each other."""
    bottom = np.zeros(counts.shape[1])
    for kind, heights in zip(Kind, counts.numpy(), strict=True):
        axes.bar(
            edges[:-1].numpy(),
            heights,
            edges.diff().numpy(),
            bottom,
            align='edge',
            color=PALETTE[0] if rule is None else _KINDS[kind][0],
            edgecolor='white',
            linewidth=0.3,
            hatch=_HATCHES[kind],
        )
        bottom += heights
    axes.set_ylim(0, 1.05 * bottom.max())
    axes.grid(axis='x', visible=False)


def _log_axis(
    axes: Axes, edges: Tensor, ticks: Sequence[float], labels: Sequence[str]
) -> None:
    axes.set_xscale('log', base=2)
    axes.set_xticks(ticks, labels)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(edges[0].item(), edges[-1].item())


def _mark(axes: Axes, values: Tensor, height: float, text: str = '') -> None:
    """Ticks at an anchor's values, above the bars, and a word after them."""
    values = values.unique().numpy()
    above_axes = axes.get_xaxis_transform()
    axes.plot(
        values,
        np.full(len(values), height),
        color=_OBJECT,
        marker='|',
        markersize=5,
        linestyle='',
        transform=above_axes,
        clip_on=False,
    )
    axes.annotate(
        text,
        (values[-1], height),
        xycoords=above_axes,
        xytext=(3, 0),
        textcoords='offset points',
        fontsize=6,
        va='center',
    )
