"""Images and boxes on matplotlib's axes, in absolute pixels of the image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.patheffects import withStroke


def show_image(axes: Axes, image: np.ndarray, **kwargs: Any) -> None:
    """Show an image without ticks, so that pixel i covers [i, i + 1] of the axes.

    Args:
        axes: Axes to draw on; the image fills them.
        image: (H, W, 3) uint8 RGB.
        kwargs: Further arguments of ``imshow``.
    """
    height, width = image.shape[:2]
    axes.imshow(image, extent=(0, width, height, 0), **kwargs)
    axes.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
    axes.grid(False)


def draw_boxes(
    axes: Axes,
    boxes: np.ndarray,
    color: str | Sequence[str],
    line: Any = '-',
    width: float = 1.0,
    halo: float = 0.0,
    **kwargs: Any,
) -> None:
    """Draw the outlines of boxes, the last one on top.

    Args:
        axes: Axes of :func:`show_image`.
        boxes: (N, 4) xyxy.
        color, line: Colour and line style of all boxes, or of each.
        width: Width of the lines, in points.
        halo: Width of a white line below, in points; 0 for none.
        kwargs: Further properties of the lines.
    """
    x1, y1, x2, y2 = np.asarray(boxes, float).reshape(-1, 4).T
    corners = np.stack([x1, y1, x2, y1, x2, y2, x1, y2], axis=1).reshape(-1, 4, 2)
    if halo:
        # Boxes stand out on any image.
        kwargs['path_effects'] = [
            withStroke(linewidth=halo, foreground='white', alpha=0.8)
        ]
    axes.add_collection(
        PolyCollection(
            corners,
            facecolors='none',
            edgecolors=color,
            linestyles=line,
            linewidths=width,
            **kwargs,
        )
    )


def best_last(scores: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the order in which boxes are drawn, (N,) indices: the best is on top.

    Of equal scores the first one comes last, as it comes first in a ranking.
    """
    return np.argsort(-np.asarray(scores, float), kind='stable')[::-1]
