"""COCO content of what the package supervision has read, which reads YOLO and VOC."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from focal_retinanet.cli.errors import UserError
from focal_retinanet.data.coco_images import image_size
from focal_retinanet.data.formats.splits import FormatError

if TYPE_CHECKING:
    import supervision


def import_supervision(format_name: str, folder: Path):
    """Return the package supervision.

    Args:
        format_name: format that it reads.
        folder: data set in this format.

    Raises:
        UserError: it is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise UserError(
            f'{folder}: is in the format {format_name}, which the package supervision '
            f'reads: pip install supervision, the extra [formats] ({error})'
        ) from error
    return supervision


def to_coco(
    detections: Mapping[Path, 'supervision.Detections'],
    classes: Sequence[str],
    img_dir: Path,
) -> dict:
    """Return the content of a COCO file.

    Args:
        detections: boxes, xyxy in absolute pixels, and ``class_id``, the index of a class, by image file.
        classes: names of the classes.
        img_dir: folder that the file names become relative to.

    Raises:
        FormatError: an image cannot be read.
    """
    images, annotations = [], []
    for image_id, (file, found) in enumerate(sorted(detections.items()), start=1):
        try:
            width, height = image_size(file)
        except (OSError, ValueError) as error:
            raise FormatError(f'image {file} cannot be read ({error})') from error
        name = file.relative_to(img_dir).as_posix()
        images.append(dict(id=image_id, file_name=name, width=width, height=height))
        if not len(found):
            continue
        for (x1, y1, x2, y2), label in zip(
            found.xyxy.tolist(), found.class_id.tolist(), strict=True
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
    categories = [dict(id=i, name=name) for i, name in enumerate(classes, start=1)]
    return dict(images=images, annotations=annotations, categories=categories)
