"""Checks that the images of a COCO file exist and have the sizes that it says."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import mmcv
import numpy as np
from PIL import Image, UnidentifiedImageError

from focal_retinanet.cli.naming import few

#: Number of headers to read, spread over the file. These take 0.1 s; all of COCO's
#: would take as long as reading the file.
SAMPLED = 1000
#: EXIF tag of the orientation, and its largest value that keeps width and height.
_ORIENTATION = 0x0112
_LAST_UPRIGHT = 4


class ImageFaults(NamedTuple):
    """Messages about image files."""

    errors: list[str]
    warnings: list[str]


def check_images(
    img_dir: str | Path,
    file_names: Sequence[str],
    sizes: Sequence[tuple[float, float]],
    color_type: str | None = 'color',
    is_size_known: bool = True,
) -> ImageFaults:
    """Check that all images exist, and the headers of a sample.

    Args:
        img_dir: Folder of the images.
        file_names: N file names.
        sizes: (width, height) of each image in the annotation file.
        color_type: Flag with which mmcv reads the images; it decides whether an EXIF
            rotation is applied. None skips the check of headers.
        is_size_known: Whether ``sizes`` are those of whoever drew the boxes, and not
            read from the images themselves.
    """
    missing = _missing(img_dir, file_names)
    if missing:
        hint = backslash_hint(''.join(missing)) or '; is data_prefix right?'
        error = (
            f'image {few(missing)} is missing on disk '
            f'({len(missing)} of {len(file_names)}){hint}'
        )
        return ImageFaults([error], [])
    if color_type is None or not file_names:
        return ImageFaults([], [])

    chosen = np.unique(
        np.linspace(0, len(file_names) - 1, SAMPLED).round().astype(int)
    ).tolist()
    return check_headers(
        [os.path.join(img_dir, file_names[index]) for index in chosen],
        [sizes[index] for index in chosen],
        f'of {len(chosen)}'
        + (' that were looked at' if len(chosen) < len(file_names) else ''),
        color_type,
        is_size_known,
    )


def check_headers(
    paths: Sequence[str],
    sizes: Sequence[tuple[float, float]],
    of_all: str,
    color_type: str = 'color',
    is_size_known: bool = True,
) -> ImageFaults:
    """Check that images can be read, and have the sizes that their annotations say.

    Args:
        paths: N image files.
        sizes: (width, height) of each.
        of_all: Text that follows the number of faults.
        color_type: See :func:`check_images`.
        is_size_known: See :func:`check_images`.
    """
    unreadable, other_size, rotated, deep = [], [], [], []
    is_turned = False
    for path, (width, height) in zip(paths, sizes, strict=True):
        try:
            header = _read_header(path, color_type)
        except (OSError, ValueError) as error:
            reason = getattr(error, 'strerror', None) or str(error)
            unreadable.append(f'{path} ({reason.replace(path, "it")})')
            continue
        is_quarter_turn = header.orientation > _LAST_UPRIGHT
        if (header.width, header.height) != (width, height):
            other_size.append(
                f'{path} is {header.width}x{header.height} where the file says '
                f'{width:g}x{height:g}'
            )
            is_turned |= is_quarter_turn
        elif header.is_oriented and header.orientation > 1:
            # A size that is turned, too, tells that the boxes are.
            if not (is_size_known and is_quarter_turn and width != height):
                rotated.append(path)
        if header.is_cut_to_8_bits:
            deep.append(path)
    errors = []
    if unreadable:
        errors.append(
            f'image {few(unreadable)} cannot be read ({len(unreadable)} {of_all}); '
            'replace it, or take it out of the file'
        )
    if other_size:
        cause = (
            'the photo has an EXIF rotation, which mmcv applies but the writer of the '
            'file did not: rotate the image files themselves, or set '
            "color_type='color_ignore_orientation' of LoadImageFromFile in every "
            'pipeline'
            if is_turned
            else 'boxes that were drawn in images of another size are at the wrong '
            'place: provide images of that size, or correct width, height and boxes'
        )
        errors.append(f'image {few(other_size)} ({len(other_size)} {of_all}); {cause}')
    return ImageFaults(errors, _doubts(rotated, deep, of_all))


def _doubts(rotated: list[str], deep: list[str], of_all: str) -> list[str]:
    """Return warnings about images that may not look as their annotator saw them."""
    warnings = []
    if rotated:
        warnings.append(
            f'image {few(rotated)} has an EXIF rotation or mirroring ({len(rotated)} '
            f'{of_all}), which mmcv applies, and no size tells whether the writer of the '
            'boxes did; if not, they are at the wrong place: check them with '
            'tools/browse_dataset.py'
        )
    if deep:
        warnings.append(
            f'image {few(deep)} has more than 8 bits ({len(deep)} {of_all}), of which '
            'mmcv reads 8, so that it may become nearly black or white: convert the '
            'images to 8 bits with values from 0 to 255'
        )
    return warnings


def backslash_hint(path: str) -> str:
    """Return what to do about a path that does not exist, if it has backslashes."""
    if '\\' not in path:
        return ''
    return "; its name has the backslashes of Windows; write '/'"


def image_size(path: str | Path) -> tuple[int, int]:
    """Return the (width, height) of an image as mmcv reads it, EXIF rotation applied.

    Raises:
        OSError: There is no image in the file, or the file cannot be opened.
    """
    header = _read_header(str(path), 'color')
    return header.width, header.height


class _Header(NamedTuple):
    """What a header says of an image.

    Attributes:
        width: Width as mmcv reads the image.
        height: Height as mmcv reads the image.
        orientation: EXIF orientation.
        is_oriented: Whether mmcv applies it.
        is_cut_to_8_bits: Whether the image has more bits, of which mmcv drops some.
    """

    width: int
    height: int
    orientation: int
    is_oriented: bool
    is_cut_to_8_bits: bool


def _read_header(path: str, color_type: str) -> _Header:
    """Read a header; raise OSError if the file is not a readable image."""
    is_raw = color_type == 'unchanged'
    is_oriented = not (color_type.endswith('ignore_orientation') or is_raw)
    mode, is_deep = '', False
    try:
        with Image.open(path) as image:
            width, height = image.size
            # Pillow's mode of 16 bits a colour is RGB, and that of its tiles RGB;16.
            is_deep = any(';16' in str(tile[3]) for tile in image.tile)
            orientation = image.getexif().get(_ORIENTATION, 1)
            mode = image.mode
    except (UnidentifiedImageError, Image.DecompressionBombError):
        if not os.path.getsize(path):
            raise OSError('it is empty') from None
        # OpenCV reads some formats that Pillow does not, and larger images.
        orientation = None
    is_deep |= mode[:1] in ('I', 'F')  # I;16, I;16B and others
    is_cut = is_deep and not is_raw
    if orientation == 1 and mode not in ('I', 'F'):
        return _Header(width, height, 1, is_oriented, is_cut)
    # OpenCV's version decides for which formats the orientation is applied, and in
    # which it reads 32 bits: try it.
    image = mmcv.imread(path, flag=color_type)
    if image is None:
        raise OSError('it is no image that OpenCV can decode')
    height, width = image.shape[:2]
    return _Header(width, height, orientation or 1, is_oriented, is_cut)


def _missing(img_dir: str | Path, file_names: Sequence[str]) -> list[str]:
    """Return the paths that do not exist, by one listing per folder.

    A look-up of each of 118,000 files takes minutes on a network disk.
    """
    listing: dict[str, set[str]] = {}
    missing: list[str] = []
    for file_name in file_names:
        path = os.path.join(img_dir, file_name)
        folder, name = os.path.split(path)
        if folder not in listing:
            is_dir = os.path.isdir(folder or '.')
            listing[folder] = set(os.listdir(folder or '.')) if is_dir else set()
        if name not in listing[folder]:
            missing.append(path)
    return missing
