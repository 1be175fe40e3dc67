"""What Pascal VOC's XML files have besides boxes, and what is wrong with them."""

from pathlib import Path
from xml.etree.ElementTree import ParseError, iterparse, parse

from focal_retinanet.data.formats.splits import FormatError


def is_of_another_kind(file: Path) -> bool:
    """Return whether an XML file is no annotation, such as the .aux.xml of a map."""
    try:
        with file.open('rb') as text:
            _, root = next(iterparse(text, events=['start']))
    except (ParseError, ValueError, LookupError, OSError):  # said when it is read
        return False
    return 'annotation' not in root.tag.lower()


def size_in(file: Path) -> tuple[float, float] | None:
    """Return the (width, height) of the image that the boxes were drawn in.

    Args:
        file: XML file that can be parsed.

    Returns:
        The size; None if there is none, or it is 0 as some tools write it.

    Raises:
        FormatError: It is no number.
    """
    root = parse(file).getroot()
    texts = [(root.findtext(f'size/{key}') or '').strip() for key in _SIZE]
    try:
        width, height = (float(text or 0) for text in texts)
    except ValueError as error:
        raise FormatError(
            f'{file}: its size has the width {texts[0]} and the height {texts[1]}; write '
            'numbers of pixels'
        ) from error
    return (width, height) if width and height else None


_SIZE = ('width', 'height')


def fault_of(file: Path) -> str | None:
    """Return what is wrong with an XML file, if something is."""
    try:
        root = parse(file).getroot()
    except ParseError as error:
        return f'is not XML ({error})'
    except (ValueError, LookupError) as error:
        return f'is in an encoding that is not read ({error}); save it as UTF-8'
    for number, thing in enumerate(root.iterfind('object'), start=1):
        for key in _OBJECT:
            text = thing.findtext(key)
            if not text:
                return f'object {number} has no {key}'
            if key != 'name' and not _is_number(text):
                return f'object {number} has the {key} {text!r}, which is no number'
    return None


_OBJECT = ('name', *(f'bndbox/{key}' for key in ('xmin', 'ymin', 'xmax', 'ymax')))


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) < float('inf')
    except ValueError:
        return False
