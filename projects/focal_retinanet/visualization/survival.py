"""A figure of which runs diverge, and when, over their learning rates."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D

from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.training_log import ModelLogs, TrainingLog
from focal_retinanet.visualization import style

# Distance of neighbouring models at one learning rate, as a ratio of rates, and the
# part of it over which the seeds of a model spread.
_STEP, _SPREAD = 1.16, 0.5


def draw_survival(
    models: Sequence[ModelLogs], file: str | Path, title: str | None = None
) -> list[str]:
    """Write a figure with a mark for each run, at the iteration up to which it trained.

    A cross is a run that diverged, at the first logged loss that is not finite. A
    ring is a run that did not, at its last logged iteration. Models whose folders
    have the same name, such as a row that is trained at several learning rates, are
    one colour.

    Args:
        models: logs of the models.
        file: PNG, SVG or PDF to write.
        title: title of the figure.

    Returns:
        A note for each run that is left out, because its config is missing.

    Raises:
        UserError: there are too many models to tell apart, or nothing to draw.
    """
    runs: dict[str, list[TrainingLog]] = {}
    notes = []
    for log in (log for model in models for log in model.logs):
        if log.learning_rate is None:
            notes.append(f'left out {log.path}: no config that names its learning rate')
        elif len(log.iterations):
            runs.setdefault(_folder(log.path), []).append(log)
    if not runs:
        raise UserError('\n'.join(['no run to draw', *notes]))
    if len(runs) > style.MOST_LOOKS:
        raise UserError(
            f'{len(runs)} models are too many for one figure: name at most '
            f'{style.MOST_LOOKS}'
        )
    with style.new_figure(6.4, 3.6) as figure:
        axes = figure.subplots()
        for index, (name, logs) in enumerate(runs.items()):
            color = style.COLORS[index % len(style.COLORS)]
            shape = style.MARKERS[index // len(style.COLORS) % len(style.MARKERS)]
            place = index - (len(runs) - 1) / 2
            for log, offset in zip(logs, _offsets(logs), strict=True):
                x = log.learning_rate * _STEP ** (place + offset)
                if log.diverged_at is None:
                    axes.plot(x, log.iterations[-1], shape, color=color, mfc='none')
                else:
                    axes.plot(x, log.diverged_at, 'x', color=color, mew=1.6)
            axes.plot([], [], shape, color=color, label=style.plain(_label(name, logs)))
        rates = sorted({log.learning_rate for logs in runs.values() for log in logs})
        axes.set(xscale='log', xlabel='learning rate', ylabel='iterations trained')
        axes.set_xticks(rates, [f'{rate:g}' for rate in rates])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        looks = dict(color='#555555', linestyle='')
        handles = [
            *axes.get_legend_handles_labels()[0],
            Line2D([], [], marker='x', label='diverged', **looks),
            Line2D([], [], marker='o', mfc='none', label='did not diverge', **looks),
        ]
        figure.legend(handles=handles, loc='outside lower center', ncols=2)
        if title:
            figure.suptitle(style.plain(title))
        style.save_figure(figure, file)
    return notes


def _folder(path: Path) -> str:
    """Name of a run's config: that of its folder, or of the folder around its seed."""
    path = path.resolve()
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
