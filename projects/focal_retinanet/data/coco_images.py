"""Image files of a COCO file: whether they are there, and of the size that it says."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import mmcv
import numpy as np
from PIL import Image, UnidentifiedImageError

from focal_retinanet.data.naming import few

#: Images whose headers are read, spread over the file: 0.1 s, where all of COCO's
#: would take as long as the file itself.
SAMPLED = 1000
#: EXIF's tag of the orientation, and its values that change no size.
_ORIENTATION = 0x0112
_UPSIDE_DOWN = (2, 3, 4)


class ImageFaults(NamedTuple):
    """What is wrong with the files of some images, in words."""

    errors: list[str]
    warnings: list[str]


def check_images(
    img_dir: str | Path,
    file_names: Sequence[str],
    sizes: Sequence[tuple[float, float]],
    color_type: str | None = 'color',
) -> ImageFaults:
    """Look for missing files in a folder, and at the headers of a sample.

    Args:
        img_dir: folder that the names are in.
        file_names: N names.
        sizes: (width, height) of each, as the annotation file has them.
        color_type: flag with which mmcv will read them, which decides whether an EXIF
            rotation is applied; None leaves sizes and content unchecked.
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
            unreadable.append(f'{path} ({_reason(error, path)})')
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
            'the photo has an EXIF rotation, which mmcv applies and whatever wrote the '
            'file did not: turn the image files themselves, or set '
            "color_type='color_ignore_orientation' of LoadImageFromFile in every "
            'pipeline'
            if is_turned
            else 'boxes that were drawn in images of another size are at the wrong '
            'place: bring the images of that size, or correct width, height and boxes'
        )
        errors.append(f'image {few(other_size)} ({len(other_size)} {of_all}); {cause}')
    if upside_down:
        warnings.append(
            f'image {few(upside_down)} has an EXIF rotation by half a turn or a mirror '
            f'image ({len(upside_down)} {of_all}), which mmcv applies; if whatever '
            'wrote the boxes did not, they are at the wrong place: look at them with '
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
    """Size as mmcv reads the image, EXIF orientation, whether it was applied."""

    width: int
    height: int
    orientation: int
    is_oriented: bool


def _read_header(path: str, color_type: str) -> _Header:
    """
    Raises:
        OSError: there is no image in the file, or the file cannot be opened.
    """
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
        # OpenCV knows some formats that Pillow does not, and larger images.
        orientation = None
    if orientation == 1:
        return _Header(width, height, 1, is_oriented)
    # Which formats' orientation is applied depends on OpenCV's version: ask it.
    image = mmcv.imread(path, flag=color_type)
    if image is None:
        raise OSError('it is no image that OpenCV can decode')
    return _Header(image.shape[1], image.shape[0], orientation or 1, is_oriented)


def _reason(error: Exception, path: str) -> str:
    text = getattr(error, 'strerror', None) or str(error)
    return text.replace(path, 'it')


def _missing(img_dir: str | Path, file_names: Sequence[str]) -> list[str]:
    """Paths that do not exist.

    One listing a folder: asking for each of 118,000 files takes minutes on a network
    disk.
    """
    listing: dict[str, set[str]] = {}
    missing = []
    for file_name in file_names:
        path = os.path.join(img_dir, file_name)
        folder, name = os.path.split(path)
        if folder not in listing:
            is_dir = os.path.isdir(folder or '.')
            listing[folder] = set(os.listdir(folder or '.')) if is_dir else set()
        if name not in listing[folder]:
            missing.append(path)
    return missing
