"""Style of all figures: colours for the colour-blind, and print quality."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from focal_retinanet.visualization.labels.fonts import (
    use_fonts_for_all_text,
    without_glyph_warnings,
)

#: Okabe and Ito's palette, in the order of lines and classes.
PALETTE = (
    '#0072B2',  # blue
    '#E69F00',  # orange
    '#009E73',  # green
    '#CC79A7',  # pink
    '#D55E00',  # vermilion
    '#56B4E9',  # sky blue
    '#F0E442',  # yellow
    '#000000',
)
#: Colours of the kinds of boxes, which differ in line style too.
TRUE_POSITIVE = '#009E73'
FALSE_POSITIVE = '#D55E00'
MISSED = '#0072B2'
IGNORED = '#999999'
#: Colour map of heat maps: perceptually uniform, readable in grey.
COLORMAP = 'cividis'
#: Looks of lines: after the last colour, line styles and markers change. The palette's
#: yellow and black are left out, since they stand out too little and too much.
COLORS = PALETTE[:6]
LINES = ('-', '--', ':', '-.')
MARKERS = ('o', 's', '^', 'D')
MOST_LOOKS = len(COLORS) * len(LINES)
_ZERO_WIDTH_SPACE = '\u200b'

_RC = {
    'font.family': 'sans-serif',
    'font.size': 9,
    'axes.titlesize': 9,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'grid.color': '#dddddd',
    'grid.linewidth': 0.6,
    'axes.axisbelow': True,
    'axes.prop_cycle': mpl.cycler(color=COLORS),
    'legend.frameon': False,
    'lines.linewidth': 1.6,
    'figure.constrained_layout.use': True,
    'savefig.dpi': 200,
    'svg.fonttype': 'none',
}


@contextlib.contextmanager
def new_figure(width: float = 6.4, height: float = 4.0) -> Iterator[Figure]:
    """Make a figure in this project's style, which needs no screen; sizes in inches.

    ::

        with new_figure() as figure:
            axes = figure.subplots()
            axes.plot(x, y)
            save_figure(figure, 'curve.png')
    """
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        yield figure


def save_figure(figure: Figure, file: str | Path) -> Path:
    """Write a figure as PNG (200 dpi), SVG or PDF, by the suffix of the file.

    Text may be in any script that an installed font has.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    # The viewer of an SVG draws its text, perhaps with other fonts.
    use_fonts_for_all_text(figure, warn=file.suffix.lower() != '.svg')
    with without_glyph_warnings():
        figure.savefig(file)
    return file


def as_array(figure: Figure, dpi: int = 200) -> np.ndarray:
    """Draw a figure as a picture, (H, W, 3) uint8 RGB."""
    use_fonts_for_all_text(figure)
    figure.set_dpi(dpi)
    with without_glyph_warnings():
        figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def line_look(index: int) -> dict[str, str]:
    """Return colour, line style and marker of the line with an index."""
    turn = index // len(COLORS) % len(LINES)
    return dict(
        color=COLORS[index % len(COLORS)], linestyle=LINES[turn], marker=MARKERS[turn]
    )


def plain(text: str) -> str:
    """Return a text that matplotlib draws literally.

    A pair of dollar signs would be a formula; undecodable bytes of a file name could
    not be drawn; and a legend leaves out labels that begin with an underscore.
    """
    text = text.encode(errors='replace').decode()
    if text.startswith('_'):
        text = _ZERO_WIDTH_SPACE + text
    return text.replace('$', r'\$')
