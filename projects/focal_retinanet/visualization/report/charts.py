"""The report's charts as SVG, narrow enough for a phone."""

import math
from collections.abc import Iterable, Mapping, Sequence
from os.path import commonprefix
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from focal_retinanet.evaluation.average_precision import RECALLS, precision_recall
from focal_retinanet.evaluation.detection_errors import (
    CORRECT,
    ERRORS,
    IGNORED,
    ImageDetections,
)
from focal_retinanet.visualization import style

#: Width of all charts, in inches.
WIDTH = 4.4
#: Bars of more models cannot be told apart; the tables have all models.
MOST_BARS = 8


def class_precision_recall(
    images: Sequence[ImageDetections], category_id: int
) -> np.ndarray | None:
    """Return one class's precision at IoU 0.5 at each of COCO's recalls, (101,).

    None if the class has no objects.
    """
    scores, right, objects = [], [], 0
    for image in images:
        mine = (image.category_ids == category_id) & ~image.is_kind(IGNORED)
        scores.append(image.scores[mine])
        right.append(image.is_kind(CORRECT)[mine])
        objects += np.sum((image.gt_category_ids == category_id) & ~image.gt_crowd)
    if not objects:
        return None
    return precision_recall(np.concatenate(scores), np.concatenate(right), objects)


def draw_precision_recall(curves: Mapping[str, np.ndarray], file: Path) -> Path | None:
    """Draw one line per model, with its AP50 in the legend.

    Args:
        curves: Results of :func:`class_precision_recall` by the model's name.
        file: SVG to write.

    Returns:
        The file; None for more models than lines can be told apart.
    """
    if len(curves) > style.MOST_LOOKS:
        return None
    with style.new_figure(WIDTH, 3.0 + _legend_height(len(curves))) as figure:
        axes = figure.subplots()
        labels = short_names(curves)
        for index, (name, precision) in enumerate(curves.items()):
            label = f'{labels[name]}: {100 * precision.mean():.1f}'
            look = style.line_look(index) | dict(marker='')
            axes.plot(100 * RECALLS, 100 * precision, **look, label=label)
        axes.set(xlabel='recall (%)', xlim=(0, 100))
        axes.set(ylabel='precision (%)', ylim=(0, 103))
        _legend(figure, axes, 'AP50')
        return style.save_figure(figure, file)


def draw_speed_accuracy(rows: Sequence[dict], file: Path) -> Path | None:
    """Draw AP over the time per image, as the paper's Fig. 2.

    Args:
        rows: 'models' of a comparison.
        file: SVG to write.

    Returns:
        The file; None if no model has both numbers, or if more models have them than
        markers can be told apart.
    """
    both = [r for r in rows if r['images_per_second'] and r['AP'] is not None]
    if not both or len(both) > style.MOST_LOOKS:
        return None
    labels = short_names(row['name'] for row in both)
    with style.new_figure(WIDTH, 3.0 + _legend_height(len(both))) as figure:
        axes = figure.subplots()
        for index, row in enumerate(both):
            axes.errorbar(
                1000 / row['images_per_second'],
                100 * row['AP'],
                yerr=None if row['AP_sd'] is None else 100 * row['AP_sd'],
                label=labels[row['name']],
                **style.line_look(index) | dict(linestyle=''),
            )
        axes.set(xlabel='time per image (ms)', ylabel='AP (%)')
        axes.set_xlim(left=0)
        axes.margins(y=0.15)
        _legend(figure, axes)
        return style.save_figure(figure, file)


def draw_differences(gaps: Sequence[dict], file: Path) -> Path:
    """Draw each difference of AP with its interval.

    Args:
        gaps: 'differences' of a comparison, at least one.
        file: SVG to write.
    """
    labels = short_names([gaps[0]['reference'], *(gap['model'] for gap in gaps)])
    with style.new_figure(WIDTH, 0.8 + 0.25 * len(gaps)) as figure:
        axes = figure.subplots()
        axes.axvline(0, color='#555555', linewidth=1)
        for place, gap in enumerate(gaps):
            value, low, high = (100 * gap[key] for key in ('AP', 'low', 'high'))
            axes.plot([low, high], [place, place], color=style.PALETTE[0])
            # An open circle is within noise.
            face = 'white' if gap['within_noise'] else style.PALETTE[0]
            axes.plot(value, place, 'o', color=style.PALETTE[0], markerfacecolor=face)
        axes.set_yticks(range(len(gaps)), [labels[gap['model']] for gap in gaps])
        axes.set_ylim(len(gaps) - 0.5, -0.5)
        axes.set_xlabel(f'points of AP against {labels[gaps[0]["reference"]]}')
        axes.grid(axis='y', visible=False)
        return style.save_figure(figure, file)


def draw_errors(costs: Mapping[str, Mapping[str, float]], file: Path) -> Path | None:
    """Draw the cost of each kind of error, one bar per model.

    Args:
        costs: Results of ``cost_of_errors`` by the model's name.
        file: SVG to write.

    Returns:
        The file; None for more than ``MOST_BARS`` models.
    """
    if len(costs) > MOST_BARS:
        return None
    labels = short_names(costs)
    thick = 0.8 / len(costs)
    height = 0.6 + len(ERRORS) * (0.14 + 0.11 * len(costs)) + _legend_height(len(costs))
    with style.new_figure(WIDTH, height) as figure:
        axes = figure.subplots()
        for index, (name, cost) in enumerate(costs.items()):
            axes.barh(
                np.arange(len(ERRORS)) - 0.4 + (index + 0.5) * thick,
                [0 if math.isnan(cost[kind]) else 100 * cost[kind] for kind in ERRORS],
                thick,
                color=style.PALETTE[index],
                edgecolor='#333333',
                linewidth=0.4,
                label=labels[name],
            )
        axes.set_yticks(range(len(ERRORS)), list(ERRORS))
        axes.invert_yaxis()
        axes.set_xlabel('points of AP50')
        axes.grid(axis='y', visible=False)
        _legend(figure, axes)
        return style.save_figure(figure, file)


def draw_histogram(
    values: Sequence[float], edges: Sequence[float], x: str, y: str, file: Path
) -> Path:
    """Draw the number of values in each bin.

    Args:
        values: Values to count, from the first edge on. The last bin has all that are
            larger, too, and its label says so.
        edges: Edges of the bins, rising.
        x, y: Labels of the axes.
        file: SVG to write.
    """
    with style.new_figure(WIDTH, 2.4) as figure:
        axes = figure.subplots()
        axes.hist(
            np.minimum(values, edges[-1]),
            edges,
            color=style.PALETTE[0],
            edgecolor='white',
            linewidth=0.4,
        )
        axes.set(xlabel=x, ylabel=y, xlim=(edges[0], edges[-1]))
        if np.max(values) > edges[-1]:
            axes.text(
                1,
                1.01,
                f'last bar: {edges[-2]:.0f} and more',
                transform=axes.transAxes,
                ha='right',
                va='bottom',
                fontsize=8,
            )
        return style.save_figure(figure, file)


def shorten(name: str, longest: int = 34) -> str:
    """Return a name as matplotlib text; of a long name, only the end."""
    return style.plain(name if len(name) <= longest else '…' + name[1 - longest :])


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return the names as :func:`shorten` does, and different where the names are.

    Names with the same end are shown without it; the whole names are, if that does not
    tell them apart.
    """
    names = list(dict.fromkeys(names))
    ends: dict[str, list[str]] = {}
    for name in names:
        ends.setdefault(shorten(name), []).append(name)
    short = {}
    for end, alike in ends.items():
        if len(alike) == 1:
            short[alike[0]] = end
            continue
        common = len(commonprefix([name[::-1] for name in alike]))
        # A folder that differs keeps the end of its name.
        common -= max(alike[0][-common:].find('/'), 0)
        for name in alike:
            rest = name[:-common]
            short[name] = shorten(f'{rest}…' if rest else name)
    if len(set(short.values())) < len(names):
        return {name: style.plain(name) for name in names}
    return short


def _legend_height(lines: int) -> float:
    return 0.2 + 0.17 * lines


def _legend(figure: Figure, axes: Axes, title: str | None = None) -> None:
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc='outside lower left',
        title=title,
        fontsize=8,
        title_fontsize=8,
        labelspacing=0.25,
        alignment='left',
    )
