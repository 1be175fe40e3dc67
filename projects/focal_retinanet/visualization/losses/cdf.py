"""Fig. 4 of the paper: the distribution of a trained model's loss over its anchors."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from focal_retinanet.evaluation.loss_distribution import LossDistribution
from focal_retinanet.visualization.style import LINES, new_figure, plain, save_figure

# Number of points to draw of a curve with millions.
_POINTS = 1001


def plot_loss_cdf(
    distributions: Sequence[LossDistribution], file: str | Path, title: str = ''
) -> Path:
    """Draw the cumulative normalised loss of positives and negatives, rising.

    Args:
        distributions: One distribution per gamma.
        file: PNG, SVG or PDF to write.
        title: Title of the figure.
    """
    with new_figure(7.2, 3.2) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for distribution, line in zip(distributions, cycle(LINES), strict=False):
            label = rf'$\gamma$ = {distribution.gamma:g}'
            _plot(left, distribution.positives, line, label)
            _plot(right, distribution.negatives, line, label)
        count = distributions[0]
        left.set(xlabel=f'fraction of positives ({len(count.positives):,})')
        right.set(xlabel=f'fraction of negatives ({len(count.negatives):,})')
        left.set(ylabel='cumulative normalised loss', xlim=(0, 1), ylim=(0, 1))
        right.set(xlim=(0, 1))
        left.legend(loc='upper left')
        figure.suptitle(plain(title))
        return save_figure(figure, file)


def _plot(axes: Axes, losses: np.ndarray, line: str, label: str) -> None:
    cumulative = np.concatenate([[0], np.cumsum(losses)])
    at = np.linspace(0, len(losses), _POINTS).round().astype(int)
    axes.plot(at / len(losses), cumulative[at], line, label=label)
