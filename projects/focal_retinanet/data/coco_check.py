"""Checks of a COCO annotation file before training.

mmdet silently leaves out what it cannot use, and labels by the order of the file's
categories, whatever the order of ``classes``. Each such finding gets one line here.
"""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path

import numpy as np

from focal_retinanet.cli.naming import few
from focal_retinanet.data.coco_boxes import (
    are_usable,
    as_array,
    describe_leaving,
    describe_left_out,
)
from focal_retinanet.data.coco_entries import (
    ANNOTATION,
    CATEGORY,
    IMAGE,
    read_columns,
)
from focal_retinanet.data.coco_file import CocoFileError, read_coco
from focal_retinanet.data.coco_images import check_images


@dataclass
class CocoReport:
    """Findings: ``errors`` must be mended, ``warnings`` may be intended."""

    ann_file: str
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def error(self, text: str) -> None:
        self.errors.append(f'{self.ann_file}: {text}')

    def warn(self, text: str) -> None:
        self.warnings.append(f'{self.ann_file}: {text}')


def check_coco(
    ann_file: str | Path,
    img_dir: str | Path | None = None,
    classes: Sequence[str] | None = None,
    num_classes: int | None = None,
    coco: dict | None = None,
    needs_boxes: bool = True,
    color_type: str | None = 'color',
    is_size_known: bool = True,
) -> CocoReport:
    """Check an annotation file, its images and its classes against each other.

    Args:
        ann_file: Path of the COCO JSON; boxes are xywh in absolute pixels.
        img_dir: Folder of the images; None skips the check of images.
        classes: Class names in the data set's ``metainfo``.
        num_classes: Number of classes of the model's head.
        coco: Content of the file from :func:`read_coco`, if it is already loaded.
        needs_boxes: Whether there must be a box to learn or to find.
        color_type: Flag with which mmcv reads the images, see :func:`check_images`.
        is_size_known: Whether the sizes of the images are those of whoever drew the
            boxes, see :func:`check_images`.
    """
    report = CocoReport(str(ann_file))
    try:
        coco = read_coco(ann_file, needs_boxes) if coco is None else coco
    except CocoFileError as error:
        report.errors.append(str(error))
        return report
    columns = []
    for kind, key, rules in (
        ('image', 'images', IMAGE),
        ('annotation', 'annotations', ANNOTATION),
        ('category', 'categories', CATEGORY),
    ):
        values, errors = read_columns(kind, coco[key], rules)
        columns.append(values)
        for error in errors:
            report.error(error)
    if report.errors:  # the other checks rely on valid entries
        return report
    images, annotations, categories = columns
    if not images['id']:
        report.error('its list images is empty')
        return report
    if classes is not None:
        _check_classes(classes, categories['name'], num_classes, report)
    _check_annotations(images, annotations, categories, classes, needs_boxes, report)
    if img_dir is not None:
        sizes = list(zip(images['width'], images['height'], strict=True))
        faults = check_images(
            img_dir, images['file_name'], sizes, color_type, is_size_known
        )
        for text in faults.errors:
            report.error(text)
        for text in faults.warnings:
            report.warn(text)
    return report


def _check_classes(
    classes: Sequence[str],
    names: list[str],
    num_classes: int | None,
    report: CocoReport,
) -> None:
    if isinstance(classes, str):
        report.errors.append(
            f'metainfo classes is the string {classes!r}, not a tuple; one class is '
            f"written with a comma: ('{classes}',)"
        )
        return
    if not classes:  # mmdet would label every category, the head none
        report.error('metainfo classes is empty; name the classes')
        return
    for owner, listed in (('the categories', names), ('metainfo classes', classes)):
        double = [name for name, count in Counter(listed).items() if count > 1]
        if double:
            report.error(
                f'{owner} name {few(double)} more than once, so labels and names do '
                'not fit together; name each once'
            )
            return
    unknown = [name for name in classes if name not in names]
    if unknown:
        close = difflib.get_close_matches(unknown[0], names, n=1, cutoff=0.5)
        hint = f' (is {unknown[0]} {close[0]}?)' if close else ''
        report.error(
            f'class {few(unknown)} of metainfo is no category of the file, which has '
            f'{few(names)}{hint}; set metainfo=dict(classes=...) of the data set'
        )
        return
    if num_classes is not None and len(classes) != num_classes:
        report.errors.append(
            f'the head is built for {num_classes} classes, but the data set of '
            f'{report.ann_file} has {len(classes)} ({few(classes)}); set '
            f'model.bbox_head.num_classes={len(classes)}'
        )
    in_file_order = [name for name in names if name in classes]
    if in_file_order != list(classes):
        report.error(
            'the classes of metainfo stand in another order than the categories of '
            'the file, which decide the labels, so names would be swapped; write '
            f'classes={tuple(in_file_order)}'
        )
    left_out = [name for name in names if name not in classes]
    if left_out:
        report.warn(
            f'category {few(left_out)} is not among the classes of metainfo; its boxes '
            'are left out'
        )


def _check_annotations(
    images: dict[str, list],
    annotations: dict[str, list],
    categories: dict[str, list],
    classes: Sequence[str] | None,
    needs_boxes: bool,
    report: CocoReport,
) -> None:
    ids, labels, image_ids = (annotations[k] for k in ('id', 'category_id', 'image_id'))
    unknown = set(labels) - set(categories['id'])
    if unknown:
        no_category = compress(ids, (label in unknown for label in labels))
        report.error(
            f'annotation {few(no_category)} has the unknown category_id '
            f'{few(sorted(unknown))}; add it to categories, or remove it'
        )
    sizes_of_images = zip(images['width'], images['height'], strict=True)
    size_of = dict(zip(images['id'], sizes_of_images, strict=True))
    no_image = list(compress(ids, (image_id not in size_of for image_id in image_ids)))
    if no_image:
        report.error(
            f'annotation {few(no_image)} has an image_id that is no image; add the '
            'image, or remove the annotation'
        )
    if report.errors or (not needs_boxes and not ids):
        return
    sizes = as_array([size_of[image_id] for image_id in image_ids], 2)
    boxes = as_array(annotations['bbox'], 4)
    # A missing area is that of the box.
    areas = [1 if area is None else area for area in annotations['area']]
    usable = are_usable(boxes, areas, sizes)
    used = list(compress(ids, usable))
    ignored = np.array(list(map(bool, annotations['ignore'])), dtype=bool)
    crowds = np.array(list(map(bool, annotations['iscrowd'])), dtype=bool)
    for text in (
        describe_left_out(ids, usable, boxes, areas),
        describe_leaving(used, boxes[usable], sizes[usable]),
    ):
        if text is not None:
            report.warn(text)
    if ignored.any():
        report.warn(
            f"annotation {few(compress(ids, ignored))} has 'ignore' ({ignored.sum()} of "
            f'{len(ids)}); it is left out, in training and in AP'
        )
    categories = zip(categories['id'], categories['name'], strict=True)
    wanted = {id_ for id_, name in categories if classes is None or name in classes}
    objects = compress(labels, usable & ~ignored & ~crowds)
    if needs_boxes and wanted.isdisjoint(objects):
        report.error(
            f'has no box to learn or to find, of {len(ids)} annotations, '
            f'{crowds.sum()} of them crowds'
        )
