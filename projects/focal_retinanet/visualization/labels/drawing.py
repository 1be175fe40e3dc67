"""Labels in any script on the pixels of a picture, drawn by Pillow.

Pillow with Raqm, which its wheels have, shapes Arabic, Hindi and Thai. matplotlib up
to 3.10 writes their letters one by one.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from focal_retinanet.visualization.labels.fonts import font_files, has_glyph
from focal_retinanet.visualization.labels.placement import place_labels
from focal_retinanet.visualization.palette import Colour, readable_on

# Space between the letters and the edge of the label, in sizes of the letters.
_MARGIN = 0.15


def draw_labels(
    image: np.ndarray,
    boxes: np.ndarray,
    texts: Sequence[str],
    colours: Sequence[Colour],
    sizes: Sequence[int],
    text_colours: Sequence[Colour] | None = None,
) -> np.ndarray:
    """Draw the labels of boxes on an image, as far as there is room.

    Args:
        image: (H, W, 3) uint8 RGB, changed in place.
        boxes: (N, 4) xyxy in pixels, the best first.
        texts: N texts in any script, of one line or several.
        colours: N RGB colours of the background.
        sizes: N sizes of the letters in pixels.
        text_colours: N RGB colours of the letters (default: black or white).

    Returns:
        (N, 4) xyxy of the labels; NaN for a label without room.
    """
    if text_colours is None:
        text_colours = [readable_on(colour) for colour in colours]
    files = tuple(font_files(texts))
    labels = [
        _label(text, size, tuple(colour), tuple(text_colour), files)
        for text, size, colour, text_colour in zip(
            texts, sizes, colours, text_colours, strict=True
        )
    ]
    height, width = image.shape[:2]
    places = place_labels(
        # In whole pixels, labels that do not overlap share no pixel.
        np.round(np.asarray(boxes, float).reshape(-1, 4)),
        np.array([label.shape[1::-1] for label in labels]).reshape(-1, 2),
        (width, height),
    )
    for label, place in zip(labels, places, strict=True):
        if np.isnan(place).any():
            continue
        x1, y1, x2, y2 = place.astype(int)
        image[y1:y2, x1:x2] = label[: y2 - y1, : x2 - x1]
    return places


def label_text(name: str, score: float | None = None) -> str:
    """Return a class and its score with two decimals, 'cat 0.90'."""
    return name if score is None else f'{name} {score:.2f}'


def letter_sizes(boxes: np.ndarray, image_size: tuple[int, int]) -> list[int]:
    """Return sizes of letters in pixels that suit the image, smaller at small boxes.

    Args:
        boxes: (N, 4) xyxy in pixels.
        image_size: Width and height of the image.
    """
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    width, height = image_size
    largest = np.clip((width * height) ** 0.5 / 50, 11, 40)
    # mmdet's labels shrink between the same areas.
    shares = np.clip(0.75 + 0.25 * (areas - 800) / (30000 - 800), 0.75, 1)
    return [int(size) for size in np.maximum(np.round(largest * shares), 10)]


# A video repeats the same few labels.
@lru_cache(maxsize=512)
def _label(
    text: str, size: int, ground: Colour, letters: Colour, files: tuple[str, ...]
) -> np.ndarray:
    """Picture of a text, (h, w, 3) uint8 RGB, read-only."""
    lines = [_runs(line, files) for line in text.split('\n')]
    fonts = {file: _font(file, size) for line in lines for file, _ in line}
    fonts[files[0]] = _font(files[0], size)
    margin = max(1, round(_MARGIN * size))
    # All labels in Latin letters get the same height.
    _, top, _, bottom = fonts[files[0]].getbbox('Ág', anchor='ls')
    width = 0.0
    for line in lines:
        for file, part in line:
            _, high, _, low = fonts[file].getbbox(part, anchor='ls')
            top, bottom = min(top, high), max(bottom, low)
        width = max(width, sum(fonts[file].getlength(part) for file, part in line))
    line_height = int(np.ceil(bottom - top)) + margin
    picture = Image.new(
        'RGB',
        (int(np.ceil(width)) + 2 * margin, line_height * len(lines) + margin),
        ground,
    )
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        x, y = float(margin), margin + number * line_height - top
        for file, part in line:
            draw.text((x, y), part, letters, fonts[file], anchor='ls')
            x += fonts[file].getlength(part)
    pixels = np.array(picture)
    pixels.flags.writeable = False
    return pixels


def _runs(line: str, files: Sequence[str]) -> list[tuple[str, str]]:
    """Split a line into parts of one font each, since Pillow has no fallback fonts."""
    # Undecodable bytes of a file name cannot be drawn.
    line = line.encode(errors='replace').decode()
    runs: list[tuple[str, str]] = []
    for character in line:
        having = [file for file in files if has_glyph(file, character)]
        # A space or a joiner stays with the preceding letters.
        last = runs[-1][0] if runs else None
        stays = last is not None and not character.isalnum() and last in having
        file = last if stays else (having or files)[0]
        if file == last:
            runs[-1] = (file, runs[-1][1] + character)
        else:
            runs.append((file, character))
    return runs


@lru_cache(maxsize=128)
def _font(file: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)
