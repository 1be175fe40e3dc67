"""Labels of boxes as matplotlib text, which stays text in an SVG or a PDF."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from focal_retinanet.visualization.labels.fonts import (
    use_fonts_for_all_text,
    without_glyph_warnings,
)
from focal_retinanet.visualization.labels.placement import place_labels
from focal_retinanet.visualization.style import plain


def add_labels(
    axes: Axes,
    boxes: np.ndarray,
    texts: Sequence[str],
    colours: Sequence[str],
    size: float,
) -> None:
    """Label boxes of an image, as far as there is room.

    The places depend on the layout, so the rest of the figure must be complete.

    Args:
        axes: Axes of a ``new_figure`` with an image, whose first row is at the top.
        boxes: (N, 4) xyxy in the units of the axes, the most important ones first.
        texts: N texts in any script.
        colours: N colours of the labels' frames.
        size: Size of the letters, in points.
    """
    artists = [
        axes.text(
            *(axes.get_xlim()[0], axes.get_ylim()[0]),
            plain(text),
            fontsize=size,
            ha='left',
            va='bottom',
            bbox=dict(
                boxstyle='square,pad=0.1', fc='white', ec=colour, lw=0.4, alpha=0.8
            ),
        )
        for text, colour in zip(texts, colours, strict=True)
    ]
    if not artists:
        return
    for artist in artists:
        artist.set_in_layout(False)  # its place depends on the layout
    use_fonts_for_all_text(axes.figure)
    # Hinting makes the size of letters depend on the resolution of the file.
    dpi = axes.figure.dpi
    axes.figure.set_dpi(mpl.rcParams['savefig.dpi'])
    with without_glyph_warnings():
        axes.figure.draw_without_rendering()
    area = axes.get_window_extent()
    frames = [artist.get_bbox_patch().get_window_extent() for artist in artists]
    x, y = axes.transData.transform(np.asarray(boxes, float).reshape(-1, 2)).T
    places = place_labels(
        # Pixels from the upper left corner; matplotlib counts rows from below.
        np.stack([x - area.x0, area.y1 - y], axis=1).reshape(-1, 4),
        np.array([(frame.width, frame.height) for frame in frames]),
        (area.width, area.height),
    )
    to_data = axes.transData.inverted()
    for artist, frame, place in zip(artists, frames, places, strict=True):
        if np.isnan(place).any():
            artist.remove()
            continue
        here = axes.transData.transform(artist.get_position())
        move = (area.x0 + place[0] - frame.x0, area.y1 - place[3] - frame.y0)
        artist.set_position(to_data.transform(here + move))
    axes.figure.set_dpi(dpi)
