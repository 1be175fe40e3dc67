"""Maps of the focal loss over an image: which cells of each level it focuses on."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from torch import Tensor

from focal_retinanet.evaluation.anchor_logits import AnchorLogits
from focal_retinanet.ops.focal_loss.definition import Alpha, sigmoid_focal_loss
from focal_retinanet.ops.matching import IGNORED
from focal_retinanet.visualization.boxes import draw_boxes, show_image
from focal_retinanet.visualization.style import COLORMAP, new_figure, save_figure

# Decades below the highest loss at which the colours end.
_DECADES = 4


def loss_maps(
    logits: Tensor, labels: Tensor, gamma: float, alpha: Alpha
) -> tuple[Tensor, Tensor, Tensor]:
    """Return three maps of one level, (h, w) float32 each.

    Args:
        logits: (h, w, A, K).
        labels: (h, w, A), class, K for background, -1 for ignored anchors.
        gamma, alpha: Parameters of the focal loss.

    Returns:
        For the anchors and classes of each cell: sum of the cross entropy (gamma =
        0), highest modulating factor ``(1 - p_t)**gamma``, and sum of the focal loss.
    """
    height, width, _, num_classes = logits.shape
    x, targets = logits.reshape(-1, num_classes), labels.flatten()
    cross_entropy, focal = (
        sigmoid_focal_loss(x, targets, gamma=g, alpha=alpha).reshape(height, width, -1)
        for g in (0.0, gamma)
    )
    p = x.sigmoid()
    is_class = targets[:, None] == torch.arange(num_classes)
    factor = torch.where(is_class, 1 - p, p) ** gamma
    factor = factor.masked_fill(targets[:, None] == IGNORED, 0)
    return (
        cross_entropy.sum(-1),
        factor.reshape(height, width, -1).amax(-1),
        focal.sum(-1),
    )


def plot_loss_map(
    image: AnchorLogits, file: str | Path, gamma: float = 2.0, alpha: Alpha = 0.25
) -> Path:
    """Draw the image, cross entropy, modulating factor and focal loss of each level.

    Both losses have the same logarithmic scale on all levels.

    Args:
        image: Logits and labels of the anchors of an image.
        file: PNG, SVG or PDF to write.
        gamma, alpha: Parameters of the focal loss.
    """
    maps = [
        loss_maps(logits, labels, gamma, alpha)
        for logits, labels in zip(image.levels, image.labels, strict=True)
    ]
    highest = max(float(level[i].max()) for level in maps for i in (0, 2))
    loss_norm = LogNorm(max(highest, 1e-9) * 10.0**-_DECADES, max(highest, 1e-9))
    norms = (loss_norm, Normalize(0, 1), loss_norm)
    height, width = image.image.shape[:2]
    cell = 2.3
    with new_figure(cell * 4, cell * height / width * len(maps) + 0.9) as figure:
        grid = figure.subplots(len(maps), 4, squeeze=False)
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
        for row, (level, panels) in enumerate(zip(maps, grid, strict=True)):
            _draw_image(panels[0], image, row)
            stride_w, stride_h = image.strides[row]
            for axes, values, norm in zip(panels[1:], level, norms, strict=True):
                rows, columns = values.shape
                axes.imshow(
                    np.clip(values.numpy(), norm.vmin, None),
                    cmap=COLORMAP,
                    norm=norm,
                    # The last cells may exceed the image.
                    extent=(0, columns * stride_w, rows * stride_h, 0),
                    interpolation='nearest',
                )
                axes.set(xlim=(0, width), ylim=(height, 0))
        titles = ('', 'cross entropy', 'modulating factor', 'focal loss')
        for axes, title in zip(grid[0], titles, strict=True):
            axes.set_title(title)
        labels = ('loss of a cell', 'highest of a cell', 'loss of a cell')
        for column, (norm, label) in enumerate(zip(norms, labels, strict=True), 1):
            figure.colorbar(
                ScalarMappable(norm, COLORMAP),
                ax=grid[:, column],
                location='bottom',
                label=label,
                aspect=15,
                pad=0.02,
            )
        return save_figure(figure, file)


def _draw_image(axes: Axes, image: AnchorLogits, level: int) -> None:
    show_image(axes, image.image.numpy())
    draw_boxes(axes, image.gt_bboxes, 'black', width=0.8, halo=1.6)
    labels = image.labels[level]
    num_classes = image.levels[level].size(-1)
    positives = int(((labels >= 0) & (labels < num_classes)).sum())
    axes.set_ylabel(f'stride {image.strides[level][0]}\n{positives} positives')
