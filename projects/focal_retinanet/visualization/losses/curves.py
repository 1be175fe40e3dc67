"""Figures of the focal loss and its rivals, as in the paper."""

from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path

import torch
from matplotlib.axes import Axes
from torch import Tensor

from focal_retinanet.ops.focal_loss.definition import sigmoid_focal_loss
from focal_retinanet.ops.rivals import focal_loss_star
from focal_retinanet.visualization.style import LINES, new_figure, save_figure

#: Losses of Figs. 5 and 6.
VARIANTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    'CE': partial(sigmoid_focal_loss, gamma=0.0, alpha=None),
    r'FL, $\gamma$ = 2': partial(sigmoid_focal_loss, gamma=2.0, alpha=None),
    r'FL*, $\gamma$ = 2, $\beta$ = 1': partial(
        focal_loss_star, gamma=2.0, beta=1.0, alpha=None
    ),
    r'FL*, $\gamma$ = 4, $\beta$ = 0': partial(
        focal_loss_star, gamma=4.0, beta=0.0, alpha=None
    ),
}


def plot_loss_over_p_t(
    file: str | Path, gammas: tuple[float, ...] = (0, 0.5, 1, 2, 5)
) -> Path:
    """Draw Fig. 1: the focal loss over the probability of the ground-truth class."""
    p_t = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    with new_figure(4.6, 3.4) as figure:
        axes = figure.subplots()
        for gamma, line in zip(gammas, cycle(LINES), strict=False):
            loss = partial(sigmoid_focal_loss, gamma=gamma, alpha=None)
            values = _of_positives(loss, p_t.logit())
            axes.plot(p_t, values, line, label=rf'$\gamma$ = {gamma:g}')
        axes.axvspan(0.6, 1, color='#eeeeee', zorder=0)
        axes.text(0.8, 3.2, 'well-classified\nexamples', ha='center')
        axes.set(xlim=(0, 1), ylim=(0, 5))
        axes.set(xlabel='probability of the ground-truth class, $p_t$', ylabel='loss')
        axes.set_title(r'FL($p_t$) = $-(1 - p_t)^\gamma \, \log(p_t)$')
        axes.legend()
        return save_figure(figure, file)


def plot_variants(file: str | Path) -> Path:
    """Draw Fig. 5: cross entropy, FL and FL* over x_t, which is x for y = 1."""
    x_t = torch.linspace(-5, 5, 501, dtype=torch.float64)
    with new_figure(4.6, 3.4) as figure:
        axes = figure.subplots()
        for (name, loss), line in zip(VARIANTS.items(), LINES, strict=True):
            axes.plot(x_t, _of_positives(loss, x_t), line, label=name)
        axes.set(xlim=(-5, 5), ylim=(0, 5), xlabel='$x_t$', ylabel='loss')
        _mark_classified(axes)
        axes.legend()
        return save_figure(figure, file)


def plot_derivatives(file: str | Path) -> Path:
    """Draw Fig. 6: the derivatives with respect to x of the losses of Fig. 5."""
    x_t = torch.linspace(-5, 5, 501, dtype=torch.float64, requires_grad=True)
    with new_figure(4.6, 3.4) as figure:
        axes = figure.subplots()
        for (name, loss), line in zip(VARIANTS.items(), LINES, strict=True):
            (slope,) = torch.autograd.grad(_of_positives(loss, x_t).sum(), x_t)
            axes.plot(x_t.detach(), slope, line, label=name)
        axes.set(xlim=(-5, 5), xlabel='$x_t$', ylabel='derivative of the loss')
        _mark_classified(axes)
        axes.legend()
        return save_figure(figure, file)


def _of_positives(loss: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> Tensor:
    """Loss of one class that is the label (y = 1) everywhere, (N,)."""
    return loss(x[:, None], torch.zeros(len(x), dtype=torch.long))[:, 0]


def _mark_classified(axes: Axes) -> None:
    axes.axvspan(0, 5, color='#eeeeee', zorder=0)
    # Both figures have no curves in these places.
    axes.text(0.75, 0.3, 'right', ha='center', transform=axes.transAxes)
    axes.text(0.25, 0.02, 'wrong', ha='center', transform=axes.transAxes)
