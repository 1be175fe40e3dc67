"""Image and video files: finding and reading them, with errors that name the file."""

import os
import warnings
from collections.abc import Iterable, Iterator
from glob import glob, has_magic
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from focal_retinanet.cli.errors import UserError

IMAGE_SUFFIXES = {'.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp'}
VIDEO_SUFFIXES = {'.avi', '.mkv', '.mov', '.mp4', '.webm'}


def find_inputs(inputs: Iterable[str], out_dir: Path | None = None) -> list[Path]:
    """Return the files that paths, folders and globs stand for, in order, once each.

    A link to nothing in a folder is one of its files, whose reader says what it is.

    Args:
        inputs: Paths, folders and globs.
        out_dir: Folder of results, whose pictures are no inputs of a folder or a glob.

    Raises:
        UserError: An input does not exist, holds no image or video, or is of a kind
            that cannot be read.
    """
    files: dict[Path, None] = {}
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            found = [p for p in files_below(path) if p.suffix.lower() in _SUFFIXES]
        elif path.is_file():
            found = [path]
        elif has_magic(given):
            found = [Path(p) for p in sorted(glob(given, recursive=True))]
            found = [p for p in found if not p.is_dir()]
        else:
            raise UserError(f'input {given} does not exist')
        if out_dir is not None and not path.is_file():
            results = out_dir.resolve()
            found = [p for p in found if not p.resolve().is_relative_to(results)]
        if not found:
            raise UserError(
                f'input {given} holds no image or video ({", ".join(sorted(_SUFFIXES))})'
            )
        for file in found:
            if file.suffix.lower() not in _SUFFIXES:
                raise UserError(
                    f'input {file} is neither an image nor a video that can be read '
                    f'({", ".join(sorted(_SUFFIXES))})'
                )
        files.update(dict.fromkeys(found))
    return list(files)


def files_below(folder: Path) -> list[Path]:
    """Return the files of a folder and its subfolders, linked ones too, in order.

    A subfolder that several links lead to is searched once.
    """
    files: list[Path] = []
    seen = {os.path.realpath(folder)}
    for place, names, found in os.walk(folder, followlinks=True):
        files += [Path(place, name) for name in found]
        paths = {name: os.path.join(place, name) for name in names}
        names.clear()
        for name in sorted(paths, key=lambda name: (os.path.islink(paths[name]), name)):
            real = os.path.realpath(paths[name])
            if real not in seen:
                seen.add(real)
                names.append(name)
    return sorted(files)


_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES
_AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


class CutOffVideoError(UserError):
    """A video ends before its time."""


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def read_frames(path: Path, ignores_orientation: bool = False) -> Iterator[np.ndarray]:
    """Yield the image, or the frames of the video, (H, W, 3) uint8 BGR.

    Args:
        path: File of an image or a video.
        ignores_orientation: Whether the EXIF rotation of an image is left out.

    Raises:
        CutOffVideoError: The video ends before its time, after frames were yielded.
        UserError: The file cannot be decoded.
    """
    if not is_video(path):
        flags = _AS_STORED if ignores_orientation else cv2.IMREAD_COLOR
        yield _read_image(path, flags)
        return
    if not _is_utf8(path):
        raise UserError(
            f'{path} cannot be opened as a video, because its name is not UTF-8: '
            'rename it'
        )
    video = cv2.VideoCapture(str(path))
    try:
        ok, frame = video.read()
        if not ok:
            raise UserError(f'{path} cannot be decoded as a video')
        count = 0
        while ok:
            yield frame
            count += 1
            last = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
            ok, frame = video.read()
        _check_is_whole(path, video, count, last)
    finally:
        video.release()


def _check_is_whole(
    path: Path, video: cv2.VideoCapture, count: int, last: float
) -> None:
    """Check that the last frame of a video is near the end that its header names.

    Args:
        path: File of the video.
        video: The video, after its last frame.
        count: Number of frames that were read.
        last: Time of the last one in seconds.
    """
    frames, rate = (video.get(k) for k in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS))
    if not (frames > 0 and rate > 0):
        return
    # Some headers estimate the number of frames from the length, so the time decides.
    seconds = frames / rate
    if count < frames and seconds - last > max(3 / rate, 0.05 * seconds):
        raise CutOffVideoError(
            f'the rest of {path} cannot be decoded: {count} frames were read, up to '
            f'{last:.1f} of {seconds:.1f} seconds'
        )


def read_annotated_image(
    path: Path, size: tuple[int, int], ignores_orientation: bool = False
) -> np.ndarray:
    """Return the image with or without its EXIF rotation, whichever fits its boxes.

    Args:
        path: Image file.
        size: (width, height) in the annotation file, which tells whether its boxes
            are in pixels of the rotated photo or of the stored one.
        ignores_orientation: Whether they are in those of the stored photo where both
            have this size, as a square photo has.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        UserError: The file cannot be decoded, or has another size.
    """
    found = []
    both = (cv2.IMREAD_COLOR, _AS_STORED)
    for flags in both[::-1] if ignores_orientation else both:
        image = _read_image(path, flags)
        found.append(image.shape[1::-1])
        if found[-1] == size:
            return image
    (width, height), _ = found
    raise UserError(
        f'{path} is {width}x{height} where the annotation file says '
        f'{size[0]:g}x{size[1]:g}: is it the image of these boxes?'
    )


def read_small_image(path: Path, max_pixels: int) -> np.ndarray:
    """Return an image from a stranger, whose header is read before its pixels.

    A file of a few kilobytes may have pixels that do not fit into memory.

    Args:
        path: Image file; its content counts, not its suffix.
        max_pixels: Largest number of pixels that is decoded.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        UserError: The file is no image that can be decoded, or has too many pixels.
    """
    too_large = UserError(f'{path} has more than {max_pixels / 1e6:g} million pixels')
    with warnings.catch_warnings():
        # Pillow warns of what it finds large, and then raises.
        warnings.simplefilter('ignore', Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=_FORMATS) as image:
                width, height = image.size
        except Image.DecompressionBombError as error:
            raise too_large from error
        except Exception as error:  # whatever a decoder makes of foreign bytes
            raise UserError(
                f'{path} is no image that can be read ({", ".join(_FORMATS)})'
            ) from error
    if width * height > max_pixels:
        raise too_large
    return _read_image(path)


#: Pillow's names of the formats of IMAGE_SUFFIXES.
_FORMATS = ('BMP', 'JPEG', 'PNG', 'TIFF', 'WEBP')


# OpenCV from 4.11 on decodes into the array that it returns, where others copy it.
_DECODES_IN_PLACE = 'imread(filename[, dst[, flags]])' in (cv2.imread.__doc__ or '')


def _is_utf8(path: Path) -> bool:
    """Whether the name is text; other bytes of it are surrogates in Python."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_image(path: Path, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    try:
        with path.open('rb') as file:
            if not file.read(1):
                raise UserError(f'{path} is empty')
        image = None
        # A large image needs its memory once. OpenCV crashes on a name like Latin-1's.
        if _DECODES_IN_PLACE and _is_utf8(path):
            image = cv2.imread(str(path), dst=None, flags=flags)
        if image is None or not image.size:
            # Any file name will do for NumPy, but not for OpenCV on Windows.
            image = cv2.imdecode(np.fromfile(path, np.uint8), flags)
    except OSError as error:  # no permission
        raise UserError(f'{path} cannot be read ({error})') from error
    except cv2.error as error:
        if 'CV_IO_MAX_IMAGE_' in str(error):
            raise UserError(
                f'{path} is larger than OpenCV allows: set the environment variable '
                'OPENCV_IO_MAX_IMAGE_PIXELS (by default 2**30) to a larger number; '
                'OPENCV_IO_MAX_IMAGE_WIDTH and OPENCV_IO_MAX_IMAGE_HEIGHT are 2**20'
            ) from error
        raise UserError(f'{path} cannot be read ({error})') from error
    if image is None:
        raise UserError(f'{path} cannot be decoded as an image')
    return image
