"""Curves of training: losses, learning rate and AP over iterations or time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.training_log import METRICS, ModelLogs, TrainingLog
from focal_retinanet.visualization.style import PALETTE, new_figure, plain, save_figure

#: More models than colours differ in line style and marker too.
COLORS = PALETTE[:6]
LINES = ('-', '--', ':', '-.')
MARKERS = ('o', 's', '^', 'D')
#: Curves of fewer points have them marked.
FEW_POINTS = 15
#: Values that span more than this are drawn on a logarithmic axis.
LOG_RATIO = 100
#: Name and length in seconds; the first that gives the longest run 2 or more.
_UNITS = (('hours', 3600.0), ('minutes', 60.0), ('seconds', 1.0))


@dataclass(frozen=True)
class Curve:
    """Points of one run, or of several seeds as one; all arrays (N,), finite.

    Attributes:
        x: iterations or seconds.
        y: values, of seeds their mean.
        low: of seeds the smallest value; None for one run.
        high: of seeds the largest value; None for one run.
        diverged: whether it ends where the loss stopped to be finite.
    """

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    diverged: bool = False


def default_keys(models: Sequence[ModelLogs]) -> list[str]:
    """Losses, learning rate and AP, those of them that any log has."""
    logged = dict.fromkeys(key for m in models for log in m.logs for key in log.keys)
    losses = [key for key in logged if key.startswith('loss')]
    keys = [*sorted(losses, key=lambda key: key != 'loss'), 'lr', 'AP']
    return [key for key in keys if _has(models, key)]


def draw_curves(
    models: Sequence[ModelLogs],
    file: str | Path,
    keys: Sequence[str] | None = None,
    x: str = 'iterations',
    smooth: int = 1,
    title: str | None = None,
) -> list[str]:
    """Write a figure with a panel for each key and a line for each model.

    Of a model with several seeds the line is their mean and the band goes from
    the smallest to the largest; a seed that diverged is a thin line of its own.
    A run that diverged ends there, with a cross.

    Args:
        models: their logs.
        file: PNG, SVG or PDF.
        keys: keys of the log, or AP, AP50, AP75, APs, APm, APl (default:
            :func:`default_keys`).
        x: 'iterations', or 'time' for that of training without validation.
        smooth: draw losses as the mean of this many logged values.
        title: of the figure.

    Returns:
        What a reader of the figure should know: what is not in it and why.

    Raises:
        UserError: no log has a key, or there are more models than can be told
            apart.
    """
    if len(models) > len(COLORS) * len(LINES):
        raise UserError(
            f'{len(models)} models are too many for one figure: name at most '
            f'{len(COLORS) * len(LINES)}'
        )
    keys = list(keys or default_keys(models))
    for key in keys:
        if not _has(models, key):
            known = dict.fromkeys(k for m in models for log in m.logs for k in log.keys)
            raise UserError(
                f'no log has the key {key}; there are {", ".join([*known, *METRICS])}'
            )
    notes = [note for model in models for note in _notes(model)]
    unit, length = _unit(models) if x == 'time' else ('iterations', 1.0)
    label = f'{unit} of training, without validation' if x == 'time' else unit

    columns = 2 if len(keys) == 4 else min(len(keys), 3)
    rows = math.ceil(len(keys) / columns)
    handles, legend_columns, legend_rows = _legend(models, 3.3 * max(columns, 2))
    height = 2.5 * rows + 0.2 * legend_rows + (0.3 if title else 0)
    with new_figure(3.3 * max(columns, 2), height) as figure:
        axes = None
        for index, key in enumerate(keys):
            axes = figure.add_subplot(rows, columns, index + 1, sharex=axes)
            curves = [_curves(model, key, x, smooth) for model in models]
            axes.set_title(_label(key, smooth), loc='left')
            notes += _draw_panel(axes, key, models, curves, length)
            if index + columns >= len(keys):  # the lowest of its column
                axes.set_xlabel(label)
        axes.set_xlim(left=0)  # of all panels
        figure.legend(
            handles=handles,
            loc='outside lower center',
            ncols=legend_columns,
            handlelength=3,
        )
        if title:
            figure.suptitle(plain(title))
        save_figure(figure, file)
    return list(dict.fromkeys(notes))


def smoothed(values: np.ndarray, count: int) -> np.ndarray:
    """Mean of `count` values around each, fewer at the ends; (N,) as it came in."""
    if count <= 1 or len(values) == 0:
        return values
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    begin = np.maximum(index - (count - 1) // 2, 0)
    end = np.minimum(index + count // 2 + 1, len(values))
    return (sums[end] - sums[begin]) / (end - begin)


def mean_of_seeds(seeds: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Curve:
    """Mean and extremes at the iterations that all seeds have reached.

    Values between logged iterations are interpolated, which changes nothing
    for seeds of one config.

    Args:
        seeds: iterations, x and y of each, (N,) arrays whose N may differ.
    """
    begin = max(iterations[0] for iterations, _, _ in seeds)
    end = min(iterations[-1] for iterations, _, _ in seeds)
    at = seeds[0][0]
    at = at[(at >= begin) & (at <= end)]  # (K,)
    x = np.mean([np.interp(at, i, xs) for i, xs, _ in seeds], axis=0)
    values = np.stack([np.interp(at, i, ys) for i, _, ys in seeds])  # (seeds, K)
    return Curve(x, values.mean(0), values.min(0), values.max(0))


def _has(models: Sequence[ModelLogs], key: str) -> bool:
    return any(log.find(key) for model in models for log in model.logs)


def _is_ap(key: str) -> bool:
    return key in METRICS or key.rpartition('/')[2] in METRICS.values()


def _is_smoothed(key: str, smooth: int) -> bool:
    return smooth > 1 and 'loss' in key


def _label(key: str, smooth: int) -> str:
    name = {'lr': 'learning rate'}.get(key, key)
    if _is_ap(key):
        return f'{name} (%)'
    return f'{name}, mean of {smooth} logged' if _is_smoothed(key, smooth) else name


def _points(
    log: TrainingLog, key: str, x: str, smooth: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Iterations, x and y of a run's curve, finite; None where it has no point."""
    if log.find(key) is None:
        return None
    iterations, seconds, values = log.curve(key)
    if _is_ap(key):
        # COCO's -1: no such objects.
        values = np.where(values < 0, np.nan, 100 * values)
    places = seconds if x == 'time' else iterations.astype(np.float64)
    good = np.isfinite(values) & np.isfinite(places)
    if not good.any():
        return None
    values = values[good]
    if _is_smoothed(key, smooth):
        values = smoothed(values, smooth)
    return iterations[good], places[good], values


def _curves(model: ModelLogs, key: str, x: str, smooth: int) -> list[Curve]:
    """The model's lines: one of its healthy seeds, one of each that diverged."""
    healthy, curves = [], []
    for log in model.logs:
        points = _points(log, key, x, smooth)
        if points is None:
            continue
        if log.diverged_at is None:
            healthy.append(points)
        else:
            curves.append(Curve(*points[1:], diverged=True))
    if len(healthy) == 1:
        curves.insert(0, Curve(*healthy[0][1:]))
    elif healthy:
        curves.insert(0, mean_of_seeds(healthy))
    return [curve for curve in curves if len(curve.x)]


def _draw_panel(
    axes: Axes,
    key: str,
    models: Sequence[ModelLogs],
    curves: Sequence[list[Curve]],
    length: float,
) -> list[str]:
    """Draw every model's lines of a key; what is not there, and why.

    Args:
        length: of the x-axis' unit, in that of the curves.
    """
    notes = [
        f'{model.name} has no {key} in its log'
        + (': not validated yet, or no object was found' if _is_ap(key) else '')
        for model, lines in zip(models, curves, strict=True)
        # Of those that diverged it is said already.
        if not lines and any(log.diverged_at is None for log in model.logs)
    ]
    drawn = [line for lines in curves for line in lines]
    if len(drawn) > 1 and all(_are_equal(drawn[0], line) for line in drawn):
        # One on another, the last would hide the others.
        axes.plot(drawn[0].x / length, drawn[0].y, color='black')
        title = axes.get_title(loc='left')
        axes.set_title(f'{title}, the same for all', loc='left')
    else:
        for index, lines in enumerate(curves):
            for line in lines:
                _draw_line(axes, line, index, length, len(models[index].logs) > 1)
    if drawn:
        ends = [end for line in drawn for end in (line.y, line.low, line.high)]
        _scale(axes, key, np.concatenate([end for end in ends if end is not None]))
    return notes


def _scale(axes: Axes, key: str, values: np.ndarray) -> None:
    """AP from 0; what spans orders of magnitude on a logarithmic axis."""
    if _is_ap(key):
        axes.set_ylim(0, 1.1 * max(values.max(), 1))
    elif 0 < LOG_RATIO * values.min() < values.max():
        axes.set_yscale('log')


def _are_equal(a: Curve, b: Curve) -> bool:
    return np.array_equal(a.x, b.x) and np.array_equal(a.y, b.y)


def _style(index: int) -> dict:
    """Colour, line and marker of a model by its number."""
    turn = index // len(COLORS)
    return dict(
        color=COLORS[index % len(COLORS)],
        linestyle=LINES[turn],
        marker=MARKERS[turn],
        markersize=3,
    )


def _draw_line(
    axes: Axes, line: Curve, index: int, length: float, has_seeds: bool
) -> None:
    style = _style(index)
    if len(line.x) >= FEW_POINTS:
        style['marker'] = ''
    x = line.x / length
    if line.diverged:
        axes.plot(x, line.y, **style, linewidth=0.8 if has_seeds else None)
        axes.plot(x[-1], line.y[-1], 'x', color=style['color'], ms=8, mew=2, zorder=3)
        return
    axes.plot(x, line.y, **style)
    if line.low is not None:
        axes.fill_between(x, line.low, line.high, color=style['color'], alpha=0.2, lw=0)


def _notes(model: ModelLogs) -> list[str]:
    """What happened to a model's runs, as far as their curves show it."""
    notes = []
    ends = {}
    for log in model.logs:
        if log.diverged_at is not None:
            notes.append(
                f'{log.path} diverged: its loss is NaN or infinite from iteration '
                f'{log.diverged_at} on, where its curves end'
            )
            continue
        if log.iterations.size:
            ends[log.path] = log.iterations[-1]
        lost = np.sum(~np.isfinite(log.training.get('loss', np.zeros(0))))
        if lost:
            notes.append(
                f'{log.path}: {lost} of {len(log.iterations)} logged losses are NaN '
                'or infinite; the line goes on without them'
            )
    if len(set(ends.values())) > 1:
        path = min(ends, key=ends.get)
        notes.append(
            f'{model.name}: the mean of its seeds ends at iteration {ends[path]}, '
            f'as {path} does'
        )
    return notes


def _unit(models: Sequence[ModelLogs]) -> tuple[str, float]:
    """The unit of time that suits the longest run, and its seconds."""
    ends = [log.seconds[-1] for m in models for log in m.logs if log.seconds.size]
    longest = np.nanmax(ends) if np.isfinite(ends).any() else 0
    return next((unit for unit in _UNITS if longest >= 2 * unit[1]), _UNITS[-1])


def _legend(models: Sequence[ModelLogs], width: float) -> tuple[list, int, int]:
    """Handles of the legend, and how many columns and rows it takes.

    Args:
        width: of the figure, in inches.
    """
    handles: list = []
    for index, model in enumerate(models):
        diverged = sum(log.diverged_at is not None for log in model.logs)
        seeds = f'{len(model.logs)} seeds' if len(model.logs) > 1 else ''
        lost = f'{diverged} diverged' if diverged and seeds else ''
        if all(
            log.iterations.size and log.diverged_at == log.iterations[0]
            for log in model.logs
        ):
            lost = 'diverged at once'
        details = ', '.join(part for part in (seeds, lost) if part)
        label = plain(f'{model.name} ({details})' if details else model.name)
        handles.append(Line2D([], [], **_style(index), label=label))
    if any(len(model.logs) > 1 for model in models):
        handles.append(
            Patch(color='#999999', alpha=0.4, lw=0, label='lowest to highest seed')
        )
    if any(log.diverged_at is not None for model in models for log in model.logs):
        cross = dict(marker='x', ms=8, mew=2, linestyle='', color='#555555')
        handles.append(Line2D([], [], **cross, label='diverged (loss not finite)'))
    # 9 points are about 0.075 inches a letter; the handle takes most of an inch.
    wide = 0.8 + 0.075 * max(len(handle.get_label()) for handle in handles)
    columns = max(1, min(len(handles), int(width / wide)))
    return handles, columns, math.ceil(len(handles) / columns)
