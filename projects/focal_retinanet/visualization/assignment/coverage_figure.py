"""Sizes, ratios and best IoUs of a data set's objects, by the anchors they get."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator
from torch import Tensor

from focal_retinanet.anchors.assignment import AnchorRule, Kind
from focal_retinanet.anchors.coverage import (
    Coverage,
    box_ratios,
    box_sizes,
    count_by_kind,
)
from focal_retinanet.visualization.assignment.picture import OBJECT_COLOR, OBJECT_LOOKS
from focal_retinanet.visualization.style import PALETTE, new_figure, save_figure

_BINS_PER_OCTAVE = 4
_FLATTEST = 1 / 8
_RATIO_TICKS = ('<1/8', '1/4', '1/2', '1', '2', '4', '>8')
# The kinds stay distinct in prints without colour.
_HATCHES = {Kind.COVERED: '', Kind.LOW_QUALITY: '////', Kind.NONE: 'xxxx'}


def save_coverage_figure(
    file: str | Path, coverage: Coverage, rule: AnchorRule | None
) -> Path:
    """Draw histograms of sizes, ratios and best IoUs, stacked by the kind of object.

    Args:
        file: PNG, SVG or PDF to write.
        coverage: Coverage of a data set with at least one object.
        rule: Anchors whose sizes and ratios are marked; None draws the objects alone.
    """
    kinds = coverage.kinds
    levels: list[Tensor] = []
    if rule is None:
        kinds = torch.zeros(len(coverage), dtype=torch.int64)
    else:
        levels = list(rule.generator.base_anchors)
    with new_figure(6.4 if rule is None else 9.6, 3.4) as figure:
        # Hatches as thin as the other lines; new_figure restores the setting.
        mpl.rcParams['hatch.linewidth'] = 0.5
        panels = figure.subplots(1, 2 if rule is None else 3)

        sizes = coverage.sizes.clamp(min=2)
        edges = _octaves(torch.cat([sizes, *map(box_sizes, levels)]))
        _stack(panels[0], count_by_kind(sizes, kinds, edges), edges, rule)
        ticks = [2.0**i for i in range(1, 15)]
        _log_axis(panels[0], edges, ticks, [f'{x:g}' for x in ticks])
        panels[0].set(xlabel='size in the input, pixels (sqrt of area)')
        panels[0].set(ylabel='objects')
        for i, anchors in enumerate(levels):
            _mark(panels[0], box_sizes(anchors), 1.03 + 0.05 * i, str(rule.strides[i]))

        # The outermost bins have all flatter and taller objects too.
        ratios = coverage.ratios.clamp(_FLATTEST, 1 / _FLATTEST * 0.999)
        edges = _octaves(torch.tensor([_FLATTEST, 1 / _FLATTEST]))
        _stack(panels[1], count_by_kind(ratios, kinds, edges), edges, rule)
        _log_axis(panels[1], edges, [2.0**i for i in range(-3, 4)], _RATIO_TICKS)
        panels[1].set(xlabel='ratio, height / width')

        if rule is not None:
            _mark(panels[1], box_ratios(torch.cat(levels)), 1.03)
            edges = torch.linspace(0, 1, 21)
            counts = count_by_kind(coverage.best_iou, kinds, edges)
            _stack(panels[2], counts, edges, rule)
            thr = rule.assigner.pos_iou_thr
            panels[2].axvline(thr, color=OBJECT_COLOR, lw=1, ls='--')
            panels[2].set(xlim=(0, 1), xlabel='best IoU with any anchor')
            figure.legend(handles=_legend(), loc='outside upper center', ncols=5)
        return save_figure(figure, file)


def _legend() -> list[Patch | Line2D]:
    patches = [
        Patch(facecolor=color, hatch=_HATCHES[kind], edgecolor='white', label=words)
        for kind, (color, _, words) in OBJECT_LOOKS.items()
    ]
    tick = dict(marker='|', ms=7, lw=0, label='anchors (number: stride)')
    line = dict(ls='--', lw=1, label='IoU of a positive')
    return [
        *patches,
        *(Line2D([], [], color=OBJECT_COLOR, **style) for style in (tick, line)),
    ]


def _octaves(values: Tensor) -> Tensor:
    """Edges of bins of a quarter of an octave that hold all values."""
    low, high = values.log2().min().floor(), values.log2().max().ceil()
    steps = int((high - low).clamp(min=1)) * _BINS_PER_OCTAVE
    return 2 ** (low + torch.arange(steps + 1) / _BINS_PER_OCTAVE)


def _stack(axes: Axes, counts: Tensor, edges: Tensor, rule: AnchorRule | None) -> None:
    """Draw stacked bars of the counts of each kind, (3, B)."""
    bottom = np.zeros(counts.shape[1])
    for kind, heights in zip(Kind, counts.numpy(), strict=True):
        axes.bar(
            edges[:-1].numpy(),
            heights,
            edges.diff().numpy(),
            bottom,
            align='edge',
            color=PALETTE[0] if rule is None else OBJECT_LOOKS[kind][0],
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
    """Draw ticks at an anchor's values above the bars, and a text after them."""
    values = values.unique().numpy()
    above_axes = axes.get_xaxis_transform()
    place = dict(color=OBJECT_COLOR, transform=above_axes, clip_on=False)
    axes.plot(values, np.full(len(values), height), '|', markersize=5, **place)
    axes.annotate(
        text,
        (values[-1], height),
        xycoords=above_axes,
        xytext=(3, 0),
        textcoords='offset points',
        fontsize=6,
        va='center',
    )
