"""Reading of COCO annotation files, and the choice of annotations that count.

Training, every AP, the reports and the pictures use these functions, so that all of
them leave out the same annotations.
"""

import contextlib
import gc
import json
from collections.abc import Iterator
from itertools import compress
from pathlib import Path

import numpy as np
from mmdet.datasets.api_wrappers import COCO

from focal_retinanet.cli.console import quiet_pycocotools
from focal_retinanet.data.coco_boxes import are_usable

#: Keys of the lists in a file.
COCO_LISTS = ('images', 'annotations', 'categories')


class CocoFileError(ValueError):
    """A file is not a COCO annotation file."""


def read_coco(ann_file: str | Path, needs_boxes: bool = True) -> dict:
    """Read an annotation file with its three lists.

    Args:
        ann_file: Path of the JSON file.
        needs_boxes: Whether the file must have ``annotations``. If not, a file of
            images alone, such as COCO's test-dev, gets an empty list.

    Raises:
        CocoFileError: The file does not exist, is not JSON, or lacks one of the
            lists ``images``, ``annotations`` and ``categories``.
    """
    try:
        with open(ann_file, encoding='utf-8-sig') as file, no_garbage_collection():
            coco = json.load(file)
    except FileNotFoundError as error:
        raise CocoFileError(
            f'{ann_file}: no such annotation file; is data_root right?'
        ) from error
    except OSError as error:  # a folder, no permission
        raise CocoFileError(f'{ann_file}: cannot be read ({error.strerror})') from error
    except UnicodeDecodeError as error:
        raise CocoFileError(
            f'{ann_file}: is not JSON in UTF-8 ({error}); save it in this encoding'
        ) from error
    except json.JSONDecodeError as error:
        raise CocoFileError(f'{ann_file}: is not JSON ({error})') from error
    if isinstance(coco, dict) and not needs_boxes:
        coco.setdefault('annotations', [])
    lists = coco if isinstance(coco, dict) else {}
    missing = [key for key in COCO_LISTS if not isinstance(lists.get(key), list)]
    if missing:
        raise CocoFileError(
            f'{ann_file}: has no list {", ".join(missing)}; a COCO detection file has '
            f'{", ".join(COCO_LISTS)}'
        )
    return coco


def prepare_coco(coco: dict) -> dict:
    """Prepare a file's content for mmdet and pycocotools.

    - Annotations are numbered 1, 2, 3, ...: pycocotools takes the id 0 for "matched
      nothing", and cannot use text or negative numbers.
    - A missing ``iscrowd`` becomes 0, a missing ``area`` width times height.
    - Boxes that :func:`are_usable` refuses and those with ``ignore`` are removed,
      because mmdet leaves them out of training and an AP would count them as missed.

    Args:
        coco: Content of a file in which :func:`check_coco` found no error. It is
            changed in place, since a copy of COCO takes a gigabyte. Preparing it
            again changes nothing.

    Returns:
        The same content.
    """
    coco.setdefault('info', {})  # pycocotools 2.0.9 and 2.0.10 copy it
    annotations = coco['annotations']
    sizes = {image['id']: (image['width'], image['height']) for image in coco['images']}
    boxes = [annotation['bbox'] for annotation in annotations]
    for annotation, (_, _, width, height) in zip(annotations, boxes, strict=True):
        if annotation.get('area') is None:
            annotation['area'] = width * height
        annotation['iscrowd'] = int(annotation.get('iscrowd') or 0)
    usable = are_usable(
        boxes,
        [annotation['area'] for annotation in annotations],
        [sizes[annotation['image_id']] for annotation in annotations],
    )
    usable &= np.array([not a.get('ignore') for a in annotations], dtype=bool)
    coco['annotations'] = list(compress(annotations, usable))
    for number, annotation in enumerate(coco['annotations'], start=1):
        annotation['id'] = number
    return coco


class _QuietCOCO(COCO):
    """mmdet's ``COCO``, which prints nothing when a metric loads detections into it.

    No detections are detections: their AP is 0. pycocotools fails on an empty list.
    """

    @quiet_pycocotools()
    def loadRes(self, resFile: object) -> COCO:
        if isinstance(resFile, list) and not resFile:
            return as_coco({**self.dataset, 'annotations': []})
        return super().loadRes(resFile)


def as_coco(content: dict) -> COCO:
    """Wrap a file's content for mmdet and pycocotools."""
    coco = _QuietCOCO()
    coco.dataset = content
    index_coco(coco)
    return coco


@quiet_pycocotools()
def index_coco(coco: COCO) -> None:
    """Build the index of a ``COCO`` object from its ``dataset``."""
    coco.createIndex()
    coco.img_ann_map, coco.cat_img_map = coco.imgToAnns, coco.catToImgs


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Disable garbage collection, which takes a third of the time to read JSON."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
