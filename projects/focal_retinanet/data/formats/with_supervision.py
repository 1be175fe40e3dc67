"""COCO content of what the package supervision has read, which reads YOLO and VOC."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np

from focal_retinanet.cli.errors import UserError
from focal_retinanet.cli.naming import few
from focal_retinanet.data.coco_boxes import TOLERANCE
from focal_retinanet.data.coco_images import image_size
from focal_retinanet.data.formats.splits import FormatError, Split

if TYPE_CHECKING:
    import supervision


def import_supervision(format_name: str, folder: Path):
    """Return the package supervision.

    Args:
        format_name: Format that it reads.
        folder: Data set in this format.

    Raises:
        UserError: It is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise UserError(
            f'{folder}: is in the format {format_name}, which the package supervision '
            f'reads: pip install supervision, the extra [formats] ({error})'
        ) from error
    return supervision


def boxes_alone(reader, name: str):
    """Return a context in which supervision reads polygons as boxes alone.

    Otherwise it keeps a mask of the whole image for each object, 40 MB for ten objects
    of 1920x1080, until the whole folder is read.

    Args:
        reader: Module of supervision that reads the format.
        name: Name of its function that says whether there are polygons.
    """
    if not hasattr(reader, name):
        return nullcontext()  # another version, which takes the memory
    return mock.patch.object(reader, name, return_value=False)


def check_label_files(
    images: Iterable[Path], label_file: Callable[[Path], Path], source: Path
) -> None:
    """Check that no two images share the file of their boxes.

    Args:
        images: Image files of all splits.
        label_file: Function from an image file to the file of its boxes.
        source: File or folder that the annotations are from.

    Raises:
        FormatError: Two do, so one of them may be validated on what the other trained.
    """
    owners = defaultdict(list)
    for image in sorted(set(images)):
        owners[label_file(image)].append(image)
    for file, (first, *others) in owners.items():
        if others and file.is_file():
            raise FormatError(
                f'{source}: {first} and {others[0].name} have one file of boxes, {file}; '
                'keep one of the images, or give each its own file'
            )


def to_split(
    detections: Mapping[Path, 'supervision.Detections'],
    classes: Sequence[str],
    img_dir: Path,
    source: Path,
    label_file: Callable[[Path], Path],
    if_outside: str,
) -> Split:
    """Return a split; boxes are cut off at the borders of their images.

    Args:
        detections: Boxes, xyxy in absolute pixels, and ``class_id``, the index of a class, by image file.
        classes: Names of the classes.
        img_dir: Folder that the file names become relative to.
        source: File or folder that the annotations are from.
        label_file: Function from an image file to the file of its boxes.
        if_outside: What to do where boxes lie outside of their images.

    Raises:
        FormatError: An image cannot be read.
    """
    images, annotations = [], []
    outside, cut = [], []  # an image file for each such box
    for image_id, (file, found) in enumerate(sorted(detections.items()), start=1):
        try:
            width, height = image_size(file)
        except (OSError, ValueError) as error:
            raise FormatError(f'image {file} cannot be read ({error})') from error
        name = file.relative_to(img_dir).as_posix()
        images.append(dict(id=image_id, file_name=name, width=width, height=height))
        if not len(found):
            continue
        xyxy, is_outside, is_cut = _cut_off(found.xyxy, width, height)
        outside += [file] * int(is_outside.sum())
        cut += [file] * int(is_cut.sum())
        for (x1, y1, x2, y2), label in zip(
            xyxy.tolist(), found.class_id.tolist(), strict=True
        ):
            box = [round(x, 2) for x in (x1, y1, x2 - x1, y2 - y1)]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=label + 1,
                    bbox=box,
                    area=box[2] * box[3],
                    iscrowd=0,
                )
            )
    doubts = [
        f'{source}: {len(files)} of {len(annotations)} boxes {what}, in '
        f'{few(map(label_file, dict.fromkeys(files)))}; {action}'
        for files, what, action in (
            (outside, 'are outside of their image', if_outside),
            (cut, 'leave their image', 'they are cut off at its border'),
        )
        if files
    ]
    categories = [dict(id=i, name=name) for i, name in enumerate(classes, start=1)]
    coco = dict(images=images, annotations=annotations, categories=categories)
    return Split(coco, img_dir, source, doubts=doubts)


def _cut_off(
    xyxy: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut off boxes at the border of their image.

    Returns:
        - (N, 4) boxes; those outside of the image are as they were.
        - (N,) bool, which are outside.
        - (N,) bool, which were cut off, other than by rounding.
    """
    xyxy = xyxy.astype(float)
    limits = np.array([width, height, width, height])
    # A comparison with NaN is false: such a box stays for the check to name it.
    is_outside = ((xyxy[:, :2] >= limits[:2]) | (xyxy[:, 2:] <= 0)).any(1)
    is_over = ((xyxy < -TOLERANCE) | (xyxy > limits + TOLERANCE)).any(1)
    xyxy[~is_outside] = xyxy[~is_outside].clip(0, limits)
    return xyxy, is_outside, is_over & ~is_outside
