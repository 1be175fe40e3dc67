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
#: EXIF tag of the orientation, and its values that keep width and height.
_ORIENTATION = 0x0112
_UPSIDE_DOWN = (2, 3, 4)


class ImageFaults(NamedTuple):
    """Messages about image files."""

    errors: list[str]
    warnings: list[str]


def check_images(
    img_dir: str | Path,
    file_names: Sequence[str],
    sizes: Sequence[tuple[float, float]],
    color_type: str | None = 'color',
) -> ImageFaults:
    """Check that all images exist, and the headers of a sample.

    Args:
        img_dir: Folder of the images.
        file_names: N file names.
        sizes: (width, height) of each image in the annotation file.
        color_type: Flag with which mmcv reads the images; it decides whether an EXIF
            rotation is applied. None skips the check of headers.
    """
    missing = _missing(img_dir, file_names)
    errors, warnings = [], []
    if missing:
        hint = 'is data_prefix right?'
        if any('\\' in path for path in missing):
            hint = "its name has the backslashes of Windows; write '/'"
        errors.append(
            f'image {few(missing)} is missing on disk '
            f'({len(missing)} of {len(file_names)}); {hint}'
        )
    if color_type is None or errors or not file_names:
        return ImageFaults(errors, warnings)

    chosen = np.unique(
        np.linspace(0, len(file_names) - 1, SAMPLED).round().astype(int)
    ).tolist()
    unreadable, other_size, upside_down = [], [], []
    is_turned = False
    for index in chosen:
        path = os.path.join(img_dir, file_names[index])
        try:
            header = _read_header(path, color_type)
        except (OSError, ValueError) as error:
            reason = getattr(error, 'strerror', None) or str(error)
            unreadable.append(f'{path} ({reason.replace(path, "it")})')
            continue
        if (header.width, header.height) != tuple(sizes[index]):
            width, height = sizes[index]
            other_size.append(
                f'{path} is {header.width}x{header.height} where the file says '
                f'{width:g}x{height:g}'
            )
            is_turned |= header.orientation > 4
        elif header.orientation in _UPSIDE_DOWN and header.is_oriented:
            upside_down.append(path)
    of_all = f'of {len(chosen)}' + (
        ' that were looked at' if len(chosen) < len(file_names) else ''
    )
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
    if upside_down:
        warnings.append(
            f'image {few(upside_down)} has an EXIF rotation by half a turn or a mirror '
            f'image ({len(upside_down)} {of_all}), which mmcv applies; if the writer of '
            'the boxes did not, they are at the wrong place: check them with '
            'tools/browse_dataset.py'
        )
    return ImageFaults(errors, warnings)


def image_size(path: str | Path) -> tuple[int, int]:
    """Return the (width, height) of an image as mmcv reads it, EXIF rotation applied.

    Raises:
        OSError: there is no image in the file, or the file cannot be opened.
    """
    header = _read_header(str(path), 'color')
    return header.width, header.height


class _Header(NamedTuple):
    """Size as mmcv reads the image, EXIF orientation, and whether mmcv applies it."""

    width: int
    height: int
    orientation: int
    is_oriented: bool


def _read_header(path: str, color_type: str) -> _Header:
    """Read a header; raise OSError if the file is not a readable image."""
    is_oriented = not (
        color_type.endswith('ignore_orientation') or color_type == 'unchanged'
    )
    try:
        with Image.open(path) as image:
            width, height = image.size
            orientation = image.getexif().get(_ORIENTATION, 1)
    except (UnidentifiedImageError, Image.DecompressionBombError):
        if not os.path.getsize(path):
            raise OSError('it is empty') from None
        # OpenCV reads some formats that Pillow does not, and larger images.
        orientation = None
    if orientation == 1:
        return _Header(width, height, 1, is_oriented)
    # OpenCV's version decides for which formats the orientation is applied: try it.
    image = mmcv.imread(path, flag=color_type)
    if image is None:
        raise OSError('it is no image that OpenCV can decode')
    return _Header(image.shape[1], image.shape[0], orientation or 1, is_oriented)


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
