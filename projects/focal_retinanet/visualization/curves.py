"""Figures of training curves: losses, learning rate and AP over iterations or time."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.training_log import METRICS, ModelLogs
from focal_retinanet.visualization import style
from focal_retinanet.visualization.curve_points import (
    Curve,
    curves_of,
    is_ap,
    is_smoothed,
)

#: Curves with fewer points get markers.
FEW_POINTS = 15
#: Values that span a larger ratio get a logarithmic axis.
LOG_RATIO = 100
#: Names and lengths in seconds; the first unit that gives the longest run 2 or more.
_UNITS = (('hours', 3600.0), ('minutes', 60.0), ('seconds', 1.0))
_CROSS = dict(marker='x', ms=8, mew=2, linestyle='')


def default_keys(models: Sequence[ModelLogs]) -> list[str]:
    """Return those of the losses, the learning rate and AP that any log has."""
    losses = [key for key in _logged(models) if key.startswith('loss')]
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

    The line of a model with several seeds is their mean, and the band reaches from
    the lowest to the highest. A diverged run ends with a cross; a diverged seed is a
    thin line of its own.

    Args:
        models: Logs of the models.
        file: PNG, SVG or PDF to write.
        keys: Keys of the log, or AP, AP50, AP75, APs, APm, APl (default:
            :func:`default_keys`).
        x: 'iterations', or 'time' for the time of training without validation.
        smooth: Number of logged losses to average.
        title: Title of the figure.

    Returns:
        Notes on what the figure does not show, and why.

    Raises:
        UserError: No log has a key, or there are too many models to tell apart.
    """
    if len(models) > style.MOST_LOOKS:
        raise UserError(
            f'{len(models)} models are too many for one figure: name at most '
            f'{style.MOST_LOOKS}'
        )
    keys = list(keys or default_keys(models))
    for key in keys:
        if not _has(models, key):
            known = ', '.join([*_logged(models), *METRICS])
            raise UserError(f'no log has the key {key}; there are {known}')
    notes = [note for model in models for note in _notes(model)]
    # Keys of the log, the same for all runs where they have a data set in common.
    names = {}
    for key in keys:
        names[key], more = _name_in_logs(models, key)
        notes += more
    unit, length = _unit(models) if x == 'time' else ('iterations', 1.0)
    label = f'{unit} of training, without validation' if x == 'time' else unit

    columns = 2 if len(keys) == 4 else min(len(keys), 3)
    rows = math.ceil(len(keys) / columns)
    width = 3.3 * max(columns, 2)
    handles = _legend(models)
    # A letter of 9 points takes about 0.075 inches, the handle almost an inch.
    widest = 0.8 + 0.075 * max(len(handle.get_label()) for handle in handles)
    legend_columns = max(1, min(len(handles), int(width / widest)))
    legend_rows = math.ceil(len(handles) / legend_columns)
    height = 2.5 * rows + 0.2 * legend_rows + (0.3 if title else 0)
    with style.new_figure(width, height) as figure:
        axes = None
        for index, key in enumerate(keys):
            axes = figure.add_subplot(rows, columns, index + 1, sharex=axes)
            curves = [curves_of(model, names[key], x, smooth) for model in models]
            axes.set_title(_panel_title(key, smooth), loc='left')
            notes += _draw_panel(axes, key, models, curves, length)
            if index + columns >= len(keys):  # lowest panel of its column
                axes.set_xlabel(label)
        axes.set_xlim(left=0)  # shared by all panels
        figure.legend(
            handles=handles,
            loc='outside lower center',
            ncols=legend_columns,
            handlelength=3,
        )
        if title:
            figure.suptitle(style.plain(title))
        style.save_figure(figure, file)
    return list(dict.fromkeys(notes))


def _logged(models: Sequence[ModelLogs]) -> list[str]:
    """Keys of all logs, once each."""
    logs = [log for model in models for log in model.logs]
    return list(dict.fromkeys(key for log in logs for key in log.keys))


def _has(models: Sequence[ModelLogs], key: str) -> bool:
    return any(log.find(key) for model in models for log in model.logs)


def _name_in_logs(models: Sequence[ModelLogs], key: str) -> tuple[str, list[str]]:
    """Name of a key in all logs, and a note if they have several data sets."""
    name = METRICS.get(key, key)
    logs = [log for model in models for log in model.logs]
    found = [[k for k in log.validation if k.endswith(f'/{name}')] for log in logs]
    found = [keys for keys in found if keys]
    if all(len(keys) == 1 for keys in found):
        return key, []
    common = [k for k in found[0] if all(k in keys for keys in found)]
    chosen = common[0] if common else None
    others = dict.fromkeys(k for keys in found for k in keys if k != chosen)
    if chosen is None:
        return key, [
            f'{key} is that of the first data set of each run, since no data set is '
            f'common to all: {", ".join(others)}'
        ]
    return chosen, [f'{key} is {chosen}; there is {", ".join(others)}, too']


def _panel_title(key: str, smooth: int) -> str:
    name = 'learning rate' if key == 'lr' else key
    if is_ap(key):
        return f'{name} (%)'
    return f'{name}, mean of {smooth} logged' if is_smoothed(key, smooth) else name


def _draw_panel(
    axes: Axes,
    key: str,
    models: Sequence[ModelLogs],
    curves: Sequence[list[Curve]],
    length: float,
) -> list[str]:
    """Draw the curves of all models for a key, and note which have none.

    Args:
        length: Length of the x-axis' unit in that of the curves.
    """
    reason = ': not validated yet, or no object was found' if is_ap(key) else ''
    notes = [
        f'{model.name} has no {key} in its log{reason}'
        for model, lines in zip(models, curves, strict=True)
        # Diverged runs have a note of their own.
        if not lines and any(log.diverged_at is None for log in model.logs)
    ]
    drawn = [line for lines in curves for line in lines]
    if len(drawn) > 1 and all(_are_equal(drawn[0], line) for line in drawn):
        # The last line would hide the others.
        axes.plot(drawn[0].x / length, drawn[0].y, color='black')
        title = axes.get_title(loc='left')
        axes.set_title(f'{title}, the same for all', loc='left')
    else:
        for index, lines in enumerate(curves):
            for line in lines:
                _draw_line(axes, line, index, length, len(models[index].logs) > 1)
    if drawn:
        ends = [end for line in drawn for end in (line.y, line.low, line.high)]
        values = np.concatenate([end for end in ends if end is not None])
        if is_ap(key):
            axes.set_ylim(0, 1.1 * max(values.max(), 1))
        elif 0 < LOG_RATIO * values.min() < values.max():
            axes.set_yscale('log')
    return notes


def _are_equal(a: Curve, b: Curve) -> bool:
    return np.array_equal(a.x, b.x) and np.array_equal(a.y, b.y)


def _draw_line(
    axes: Axes, line: Curve, index: int, length: float, has_seeds: bool
) -> None:
    look = dict(style.line_look(index), markersize=3)
    if len(line.x) >= FEW_POINTS:
        look['marker'] = ''
    x = line.x / length
    if line.diverged:
        axes.plot(x, line.y, **look, linewidth=0.8 if has_seeds else None)
        axes.plot(x[-1], line.y[-1], color=look['color'], zorder=3, **_CROSS)
        return
    axes.plot(x, line.y, **look)
    if line.low is not None:
        axes.fill_between(x, line.low, line.high, color=look['color'], alpha=0.2, lw=0)


def _notes(model: ModelLogs) -> list[str]:
    """Notes on runs that diverged, lost single losses, or are shorter than others."""
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
    """Unit of time that suits the longest run, and its length in seconds."""
    ends = [log.seconds[-1] for m in models for log in m.logs if log.seconds.size]
    longest = np.nanmax(ends) if np.isfinite(ends).any() else 0
    return next((unit for unit in _UNITS if longest >= 2 * unit[1]), _UNITS[-1])


def _legend(models: Sequence[ModelLogs]) -> list[Artist]:
    """Handles of the legend, with the numbers of seeds and of diverged seeds."""
    handles: list[Artist] = []
    for index, model in enumerate(models):
        diverged = [log for log in model.logs if log.diverged_at is not None]
        details = []
        if len(model.logs) > 1:
            details.append(f'{len(model.logs)} seeds')
        if len(diverged) == len(model.logs) and all(
            log.diverged_at == log.iterations[0] for log in diverged
        ):
            details.append('diverged at once')
        elif diverged and len(model.logs) > 1:
            details.append(f'{len(diverged)} diverged')
        label = f'{model.name} ({", ".join(details)})' if details else model.name
        look = dict(style.line_look(index), markersize=3)
        handles.append(Line2D([], [], **look, label=style.plain(label)))
    logs = [log for model in models for log in model.logs]
    if len(logs) > len(models):
        handles.append(
            Patch(color='#999999', alpha=0.4, lw=0, label='lowest to highest seed')
        )
    if any(log.diverged_at is not None for log in logs):
        label = 'diverged (loss not finite)'
        handles.append(Line2D([], [], color='#555555', label=label, **_CROSS))
    return handles
