"""The paper's figures of the loss itself, from this project's own functions."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from focal_retinanet.ops.focal_loss.definition import sigmoid_focal_loss
from focal_retinanet.ops.rivals import focal_loss_star
from focal_retinanet.visualization.style import new_figure, save_figure

#: Figures 5 and 6: the losses that they compare.
VARIANTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    'CE': lambda x, y: sigmoid_focal_loss(x, y, gamma=0.0, alpha=None),
    r'FL, $\gamma$ = 2': lambda x, y: sigmoid_focal_loss(x, y, gamma=2.0, alpha=None),
    r'FL*, $\gamma$ = 2, $\beta$ = 1': lambda x, y: focal_loss_star(
        x, y, 2.0, 1.0, alpha=None
    ),
    r'FL*, $\gamma$ = 4, $\beta$ = 0': lambda x, y: focal_loss_star(
        x, y, 4.0, 0.0, alpha=None
    ),
}


def plot_loss_over_p_t(
    file: str | Path, gammas: tuple[float, ...] = (0, 0.5, 1, 2, 5)
) -> Path:
    """Fig. 1: the focal loss against the probability of the ground-truth class."""
    p_t = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    with new_figure(4.6, 3.4) as figure:
        axes = figure.subplots()
        for gamma, style in zip(gammas, _line_styles(), strict=False):
            axes.plot(
                p_t, _loss(p_t.logit(), gamma), style, label=rf'$\gamma$ = {gamma:g}'
            )
        axes.axvspan(0.6, 1, color='#eeeeee', zorder=0)
        axes.text(0.8, 3.2, 'well-classified\nexamples', ha='center')
        axes.set(xlim=(0, 1), ylim=(0, 5))
        axes.set(xlabel='probability of the ground-truth class, $p_t$', ylabel='loss')
        axes.set_title(r'FL($p_t$) = $-(1 - p_t)^\gamma \, \log(p_t)$')
        axes.legend()
        return save_figure(figure, file)


def plot_variants(file: str | Path) -> Path:
    """Fig. 5: cross entropy, FL and FL* against x_t = x for y = 1."""
    x_t = torch.linspace(-5, 5, 501, dtype=torch.float64)
    with new_figure(4.6, 3.4) as figure:
        axes = figure.subplots()
        for (name, loss), style in zip(VARIANTS.items(), _line_styles(), strict=False):
            axes.plot(x_t, _of_positives(loss, x_t), style, label=name)
        axes.set(xlim=(-5, 5), ylim=(0, 5), xlabel='$x_t$', ylabel='loss')
        _mark_classified(axes)
        axes.legend()
        return save_figure(figure, file)


def plot_derivatives(file: str | Path) -> Path:
    """Fig. 6: the derivatives by x of the losses of Fig. 5."""
    x_t = torch.linspace(-5, 5, 501, dtype=torch.float64, requires_grad=True)
    with new_figure(4.6, 3.4) as figure:
        axes = figure.subplots()
        for (name, loss), style in zip(VARIANTS.items(), _line_styles(), strict=False):
            (slope,) = torch.autograd.grad(_of_positives(loss, x_t).sum(), x_t)
            axes.plot(x_t.detach(), slope, style, label=name)
        axes.set(xlim=(-5, 5), xlabel='$x_t$', ylabel='derivative of the loss')
        _mark_classified(axes)
        axes.legend()
        return save_figure(figure, file)


def _loss(x_t: Tensor, gamma: float) -> np.ndarray:
    return _of_positives(
        lambda x, y: sigmoid_focal_loss(x, y, gamma=gamma, alpha=None), x_t
    ).numpy()


def _of_positives(loss: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> Tensor:
    """Of one class whose label is y = 1 everywhere, (N,)."""
    return loss(x[:, None], torch.zeros(len(x), dtype=torch.long))[:, 0]


def _mark_classified(axes: Axes) -> None:
    axes.axvspan(0, 5, color='#eeeeee', zorder=0)
    # Where no curve is, in both figures.
    axes.text(0.75, 0.3, 'right', ha='center', transform=axes.transAxes)
    axes.text(0.25, 0.02, 'wrong', ha='center', transform=axes.transAxes)


def _line_styles() -> tuple[str, ...]:
    """So that the lines are told apart in print without colours."""
    return ('-', '--', '-.', ':', '-', '--')
