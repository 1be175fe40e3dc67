"""Precision, recall and F1 over the score threshold as a figure."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from focal_retinanet.evaluation.score_thresholds import (
    THRESHOLDS,
    ScoredDetections,
    all_classes,
)
from focal_retinanet.visualization import style

#: Lines of more classes cannot be told apart; the table has all classes.
MOST_CLASSES = 12


def draw_thresholds(
    by_class: Mapping[int, ScoredDetections],
    names: Mapping[int, str],
    file: Path,
    width: float = 4.4,
) -> Path:
    """Draw the curves of all classes together, and below the F1 of each class.

    A vertical line and dots are at the best F1.

    Args:
        by_class: Detections by their category.
        names: Names of the categories.
        file: PNG, SVG or PDF to write.
        width: Width of the figure in inches.
    """
    # Classes may have equal names.
    with_objects = [(names[i], one) for i, one in by_class.items() if one.objects]
    has_classes = 1 < len(with_objects) <= MOST_CLASSES
    legend = 0.2 + 0.17 * len(with_objects) * has_classes
    height = 2.6 + has_classes * (2.4 + legend)
    with style.new_figure(width, height) as figure:
        grid = figure.subplots(1 + has_classes, 1, sharex=True, squeeze=False)[:, 0]
        everything = all_classes(by_class)
        best = everything.best
        for index, name in enumerate(('precision', 'recall', 'f1')):
            look = style.line_look(index) | dict(marker='')
            values = [getattr(point, name) for point in everything.curve]
            label = 'F1' if name == 'f1' else name
            if best is not None:
                label += f': {100 * getattr(best, name):.1f}'
                grid[0].plot(
                    best.score_thr, 100 * getattr(best, name), 'o', color=look['color']
                )
            grid[0].plot(THRESHOLDS, 100 * np.array(values), **look, label=label)
        title = 'all classes'
        if best is not None:
            grid[0].axvline(best.score_thr, color='#555555', linewidth=1)
            title += f': best F1 at a score of {best.score_thr:.2f}'
        grid[0].set_ylabel('%')
        grid[0].set_title(title, pad=20)
        grid[0].legend(loc='lower center', bbox_to_anchor=(0.5, 1), ncols=3, fontsize=8)
        if has_classes:
            for index, (name, one) in enumerate(with_objects):
                look = style.line_look(index) | dict(marker='')
                f1 = 100 * np.array([point.f1 for point in one.curve])
                label = style.plain(name)
                if one.best is not None:
                    label += f': {100 * one.best.f1:.1f} at {one.best.score_thr:.2f}'
                    grid[1].plot(
                        one.best.score_thr, 100 * one.best.f1, 'o', color=look['color']
                    )
                grid[1].plot(THRESHOLDS, f1, **look, label=label)
            grid[1].set(title='F1 of each class', ylabel='%')
            figure.legend(
                *grid[1].get_legend_handles_labels(),
                loc='outside lower left',
                fontsize=8,
                labelspacing=0.25,
            )
        for axes in grid:
            axes.set(xlim=(0, 1), ylim=(0, 103))
        grid[-1].set_xlabel('lowest score that counts')
        return style.save_figure(figure, file)
