"""A colour for each class, given any palette of a config or a checkpoint."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import cv2
import numpy as np
from matplotlib.colors import hsv_to_rgb, to_rgb
from mmdet.visualization import get_palette

from focal_retinanet.cli.errors import UserError
from focal_retinanet.visualization import style

Colour = tuple[int, int, int]

#: Distance in CIE Lab below which two colours count as equal.
_ALIKE = 20.0


def class_colours(num_classes: int, given: object = None) -> list[Colour]:
    """Return a colour per class: the given ones, then others that differ from them.

    Okabe and Ito's palette comes first, then hues that are as far as possible from
    all earlier ones. The same arguments give the same colours.

    Args:
        num_classes: Number of colours, N.
        given: Palette of the metainfo: a list of RGB colours in [0, 255] of any
            length, one colour for all classes, a name that mmdet knows ('coco',
            'voc', 'citys', a colour), or None. mmdet writes 'random' for None.

    Returns:
        N tuples of RGB in [0, 255].

    Raises:
        UserError: The palette has another form.
    """
    colours = _given_colours(num_classes, given)[:num_classes]
    return colours + list(_more_colours(tuple(colours), num_classes - len(colours)))


def with_class_colours(meta: Mapping | Sequence[Mapping] | None) -> dict:
    """Return a copy of a data set's metainfo with a colour for each of its classes.

    Args:
        meta: Metainfo with or without 'classes' and 'palette', or None. Of several,
            as a ``ConcatDataset`` of mmdet may have them, the first counts.

    Raises:
        UserError: The palette has no known form.
    """
    if isinstance(meta, list | tuple):
        meta = meta[0]
    meta = dict(meta or {})
    classes = meta.get('classes')
    if classes is not None:
        # A string is a single class.
        count = 1 if isinstance(classes, str) else len(classes)
        meta['palette'] = class_colours(count, meta.get('palette'))
    return meta


def readable_on(colour: Colour) -> Colour:
    """Return black or white, whichever is more readable on a colour (RGB)."""
    linear = (np.asarray(colour) / 255) ** 2.2
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    # At this luminance, WCAG's contrasts with black and white are equal.
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


def _given_colours(num_classes: int, given: object) -> list[Colour]:
    if given is None or (isinstance(given, str) and given == 'random'):
        return []
    try:
        if isinstance(given, str):
            return _named_colours(num_classes, given)
        given = list(given)
        if len(given) == 3 and all(np.isscalar(c) and c == int(c) for c in given):
            return [rgb(given)] * num_classes
        return [rgb(colour) for colour in given]
    except (AssertionError, KeyError, TypeError, ValueError):
        raise UserError(
            f'palette={given!r} is no palette: set a list of colours, for example '
            '[(220, 20, 60), (0, 114, 178)], or leave it out'
        ) from None


def _named_colours(num_classes: int, name: str) -> list[Colour]:
    try:
        palette = get_palette(name, num_classes)
    except AssertionError:  # it has fewer colours than there are classes
        palette = get_palette(name, 0)
    except (KeyError, TypeError, ValueError):
        palette = [name] * num_classes  # one of matplotlib's, '#0072B2'
    return [rgb(colour) for colour in palette]


def rgb(colour: Sequence[int] | str) -> Colour:
    """Return a colour, RGB or one of matplotlib's names, as RGB in [0, 255].

    Raises:
        ValueError: There is no such colour.
    """
    if isinstance(colour, str):
        return tuple(round(255 * part) for part in to_rgb(colour))
    red, green, blue = (int(part) for part in colour)
    if not all(0 <= part <= 255 for part in (red, green, blue)):
        raise ValueError(colour)
    return red, green, blue


@lru_cache(maxsize=64)
def _more_colours(taken: tuple[Colour, ...], count: int) -> tuple[Colour, ...]:
    """``count`` colours that differ from the taken ones."""
    if count <= 0:
        return ()
    chosen: list[Colour] = []
    fixed = [rgb(colour) for colour in style.PALETTE]
    pool = np.array([*fixed, *_hues(len(taken) + count)])  # (P, 3)
    lab = _lab(pool)
    nearest = np.full(len(pool), np.inf)
    for colour in taken:
        nearest = np.minimum(nearest, np.linalg.norm(lab - _lab([colour]), axis=1))
    for _ in range(count):
        unlike = np.flatnonzero(nearest[: len(fixed)] > _ALIKE)
        best = int(unlike[0] if len(unlike) else nearest.argmax())
        chosen.append(tuple(pool[best].tolist()))
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[best], axis=1))
    return tuple(chosen)


def _hues(count: int) -> np.ndarray:
    """Different colours to choose from, (P, 3) RGB; P > 2 * count up to 1000."""
    hues = np.linspace(0, 1, max(24, count), endpoint=False)
    levels = [(1.0, 0.95), (0.55, 1.0), (1.0, 0.6), (0.5, 0.7)]
    hsv = [(hue, *level) for level in levels for hue in hues]
    return np.unique(np.round(hsv_to_rgb(hsv) * 255).astype(int), axis=0)


def _lab(colours: Sequence[Colour] | np.ndarray) -> np.ndarray:
    rgb = np.asarray(colours, np.float32).reshape(1, -1, 3) / 255
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[0].astype(np.float64)
