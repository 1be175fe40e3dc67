"""A figure of which runs diverge, and when, over their learning rates."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D

from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.training_log import ModelLogs, TrainingLog
from focal_retinanet.evaluation.work_dirs import SCALARS
from focal_retinanet.visualization import style

# Largest distance of neighbouring models at one learning rate, as a ratio of rates, and
# the part of the distance over which the seeds of a model spread.
_STEP, _SPREAD = 1.16, 0.5
_GREY = dict(color='#555555', linestyle='')
_CROSS = dict(marker='x', markersize=9, markeredgewidth=1.2, **_GREY)
# Largest part of the distance of two learning rates that all models of one take.
_ROOM = 0.6


def draw_survival(
    models: Sequence[ModelLogs], file: str | Path, title: str | None = None
) -> list[str]:
    """Write a figure with a mark for each run, at the iteration up to which it trained.

    A marker with a cross over it is a run that diverged, at the first logged loss that
    is not finite. A marker without is a run that did not, at its last logged iteration.
    Models whose folders have the same name, such as a row that is trained at several
    learning rates, have one colour and one marker.

    Args:
        models: Logs of the models.
        file: PNG, SVG or PDF to write.
        title: Title of the figure.

    Returns:
        A note for each run that is left out, because its config is missing.

    Raises:
        UserError: There are too many models to tell apart, or nothing to draw.
    """
    runs: dict[str, list[TrainingLog]] = {}
    notes = []
    for model in models:
        for log in model.logs:
            if log.learning_rate is None:
                notes.append(
                    f'left out {log.path}: no config that names its learning rate'
                )
            elif len(log.iterations):
                runs.setdefault(_name(log.path, model), []).append(log)
    if not runs:
        raise UserError('\n'.join(['no run to draw', *notes]))
    if len(runs) > style.MOST_LOOKS:
        raise UserError(
            f'{len(runs)} models are too many for one figure: name at most '
            f'{style.MOST_LOOKS}'
        )
    rates = sorted({log.learning_rate for logs in runs.values() for log in logs})
    steps = np.diff(np.log(rates))
    closest = steps.min() if len(steps) else np.inf
    # Each run stays nearest to its own rate.
    step = min(np.log(_STEP), _ROOM * closest / len(runs))
    with style.new_figure(6.4, 3.6) as figure:
        axes = figure.subplots()
        for index, (name, logs) in enumerate(runs.items()):
            color = style.COLORS[index % len(style.COLORS)]
            shape = style.MARKERS[index // len(style.COLORS) % len(style.MARKERS)]
            place = index - (len(runs) - 1) / 2
            for log, offset in zip(logs, _offsets(logs), strict=True):
                x = log.learning_rate * np.exp(step * (place + offset))
                at = log.diverged_at
                y = log.iterations[-1] if at is None else at
                axes.plot(x, y, shape, color=color, mfc='none')
                if at is not None:
                    axes.plot(x, y, **_CROSS)
            axes.plot([], [], shape, color=color, label=style.plain(_label(name, logs)))
        axes.set(xscale='log', xlabel='learning rate', ylabel='iterations trained')
        axes.set_xticks(rates, [f'{rate:g}' for rate in rates])
        axes.minorticks_off()
        axes.margins(y=0.08)
        axes.set_ylim(bottom=0)
        handles = [
            *axes.get_legend_handles_labels()[0],
            Line2D([], [], label='diverged', **_CROSS),
            Line2D([], [], marker='o', mfc='none', label='did not diverge', **_GREY),
        ]
        figure.legend(handles=handles, loc='outside lower center', ncols=2)
        if title:
            figure.suptitle(style.plain(title))
        style.save_figure(figure, file)
    return notes


def _name(path: Path, model: ModelLogs) -> str:
    """Name of a run's config: that of its folder, or of the folder around its seed.

    A file of scalars that is in no work directory has the model's name.
    """
    path = path.resolve()
    if path.is_file():
        if not path.match(SCALARS):
            return model.name
        path = path.parents[2]
    return path.parent.name if path.name.startswith('seed-') else path.name


def _offsets(logs: Sequence[TrainingLog]) -> np.ndarray:
    """Places of the runs of a model beside each other at each learning rate, (N,)."""
    offsets = np.zeros(len(logs))
    rates = np.array([log.learning_rate for log in logs])
    for rate in set(rates):
        (same,) = np.nonzero(rates == rate)
        if len(same) > 1:
            offsets[same] = np.linspace(-_SPREAD / 2, _SPREAD / 2, len(same))
    return offsets


def _label(name: str, logs: Sequence[TrainingLog]) -> str:
    diverged = sum(log.diverged_at is not None for log in logs)
    return f'{name} ({diverged} of {len(logs)} diverged)'
