"""Look through a COCO annotation file before a training trips over it.

mmdet leaves out what it cannot use without a word, and labels by the order of
the file's categories whatever the order of ``classes``; here each such thing
gets one line that names it.
"""

import difflib
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, compress
from pathlib import Path

import numpy as np

from focal_retinanet.data.coco_boxes import (
    are_usable,
    as_array,
    describe_leaving,
    describe_left_out,
)
from focal_retinanet.data.coco_file import CocoFileError, read_coco
from focal_retinanet.data.coco_images import check_images
from focal_retinanet.data.naming import few


@dataclass
class CocoReport:
    """What was found: ``errors`` must be mended, ``warnings`` may be meant so."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def check_coco(
    ann_file: str | Path,
    img_dir: str | Path | None = None,
    classes: Sequence[str] | None = None,
    num_classes: int | None = None,
    coco: dict | None = None,
    needs_boxes: bool = True,
    color_type: str | None = 'color',
) -> CocoReport:
    """Check an annotation file, its images and its classes against each other.

    Args:
        ann_file: path of the COCO JSON; boxes are xywh in absolute pixels.
        img_dir: folder of the images; None leaves them unchecked.
        classes: names that the data set's ``metainfo`` gives.
        num_classes: number of classes that the model's head is built for.
        coco: content of the file from :func:`read_coco`, if it was read already.
        needs_boxes: whether there has to be a box to learn or to find.
        color_type: flag with which mmcv reads the images, see :func:`check_images`.
    """
    report = CocoReport()
    where = str(ann_file)
    try:
        coco = read_coco(where, needs_boxes) if coco is None else coco
    except CocoFileError as error:
        report.errors.append(str(error))
        return report
    images = _check_entries(where, 'image', coco['images'], _IMAGE, report)
    annotations = _check_entries(
        where, 'annotation', coco['annotations'], _ANNOTATION, report
    )
    categories = _check_entries(
        where, 'category', coco['categories'], _CATEGORY, report
    )
    if report.errors:  # what follows relies on these entries
        return report
    if not images['id']:
        report.errors.append(f'{where}: its list images is empty')
        return report
    if classes is not None:
        _check_classes(where, classes, categories['name'], num_classes, report)
    _check_annotations(
        where, images, annotations, categories, classes, needs_boxes, report
    )
    if img_dir is not None:
        sizes = list(zip(images['width'], images['height'], strict=True))
        faults = check_images(img_dir, images['file_name'], sizes, color_type)
        report.errors += [f'{where}: {line}' for line in faults.errors]
        report.warnings += [f'{where}: {line}' for line in faults.warnings]
    return report


def _check_entries(
    where: str, kind: str, entries: list, rules: dict[str, '_Rule'], report: CocoReport
) -> dict[str, list]:
    """Every entry has its keys, of the right kind, and no two have the same id.

    Returns:
        The values of each key, one an entry: a list is read much faster than
        hundreds of thousands of dicts.
    """
    if not _types(entries) <= {dict}:
        no_dict = [entry for entry in entries if not isinstance(entry, dict)]
        report.errors.append(
            f'{where}: {kind} {few(no_dict)} is no object with keys and values'
        )
        entries = [entry for entry in entries if isinstance(entry, dict)]
    columns = {key: [entry.get(key, _ABSENT) for entry in entries] for key in rules}
    for key, rule in rules.items():
        values = columns[key]
        if rule.are_valid(values):
            continue
        lacking = [_id(i, e) for i, e in enumerate(entries) if values[i] is _ABSENT]
        if lacking and not rule.is_optional:
            report.errors.append(f'{where}: {kind} {few(lacking)} has no {key!r}')
        wrong = [
            _id(i, e)
            for i, e in enumerate(entries)
            if values[i] is not _ABSENT and not rule.is_valid(values[i])
        ]
        if wrong:
            article = 'an' if key[0] in 'ai' else 'a'
            report.errors.append(
                f'{where}: {kind} {few(wrong)} has {article} {key} that is not '
                f'{rule.expected}'
            )
    ids = columns['id']
    if not _ID.are_valid(ids):
        ids = [id_ for id_ in ids if _ID.is_valid(id_)]
    if len(set(ids)) < len(ids):
        double = [id_ for id_, count in Counter(ids).items() if count > 1]
        report.errors.append(f'{where}: {kind} id {few(double)} stands more than once')
    return columns


def _check_classes(
    where: str,
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
        report.errors.append(f'{where}: metainfo classes is empty; name the classes')
        return
    for owner, listed in (('the categories', names), ('metainfo classes', classes)):
        double = [name for name, count in Counter(listed).items() if count > 1]
        if double:
            report.errors.append(
                f'{where}: {owner} name {few(double)} more than once, so labels and '
                'names do not fit together; name each once'
            )
            return
    unknown = [name for name in classes if name not in names]
    if unknown:
        close = difflib.get_close_matches(unknown[0], names, n=1, cutoff=0.5)
        hint = f' (is {unknown[0]} {close[0]}?)' if close else ''
        report.errors.append(
            f'{where}: class {few(unknown)} of metainfo is no category of the file, '
            f'which has {few(names)}{hint}; set metainfo=dict(classes=...) of the '
            'data set'
        )
        return
    if num_classes is not None and len(classes) != num_classes:
        report.errors.append(
            f'the head is built for {num_classes} classes, but the data set of {where} '
            f'has {len(classes)} ({few(classes)}); set '
            f'model.bbox_head.num_classes={len(classes)}'
        )
    in_file_order = [name for name in names if name in classes]
    if in_file_order != list(classes):
        report.errors.append(
            f'{where}: the classes of metainfo stand in another order than the '
            'categories of the file, by whose order the labels are made, so names would '
            f'be swapped; write classes={tuple(in_file_order)}'
        )
    left_out = [name for name in names if name not in classes]
    if left_out:
        report.warnings.append(
            f'{where}: category {few(left_out)} is not among the classes of '
            'metainfo; its boxes are left out'
        )


def _check_annotations(
    where: str,
    images: dict[str, list],
    annotations: dict[str, list],
    categories: dict[str, list],
    classes: Sequence[str] | None,
    needs_boxes: bool,
    report: CocoReport,
) -> None:
    ids, labels = annotations['id'], annotations['category_id']
    unknown = set(labels) - set(categories['id'])
    if unknown:
        no_category = [
            id_ for id_, label in zip(ids, labels, strict=True) if label in unknown
        ]
        report.errors.append(
            f'{where}: annotation {few(no_category)} has the unknown category_id '
            f'{few(sorted(unknown, key=str))}; add it to categories, or remove it'
        )
    size_of = {
        id_: (width, height)
        for id_, width, height in zip(
            images['id'], images['width'], images['height'], strict=True
        )
    }
    no_image = [
        id_
        for id_, image_id in zip(ids, annotations['image_id'], strict=True)
        if image_id not in size_of
    ]
    if no_image:
        report.errors.append(
            f'{where}: annotation {few(no_image)} has an image_id that is no image; '
            'add the image, or remove it'
        )
    if report.errors:
        return
    sizes = as_array([size_of[image_id] for image_id in annotations['image_id']], 2)
    boxes = as_array(annotations['bbox'], 4)
    # Where no area is given, it is that of the box.
    areas = [
        1 if area is _ABSENT or area is None else area for area in annotations['area']
    ]
    usable = are_usable(boxes, areas, sizes)
    if not needs_boxes and not ids:
        return
    used = ids if usable.all() else list(compress(ids, usable))
    for text in (
        describe_left_out(ids, usable, boxes, areas),
        describe_leaving(used, boxes[usable], sizes[usable]),
        _describe_ignored(ids, annotations['ignore']),
    ):
        if text is not None:
            report.warnings.append(f'{where}: {text}')
    usable &= np.array([not _is_set(f) for f in annotations['ignore']], dtype=bool)
    wanted = {
        id_
        for id_, name in zip(categories['id'], categories['name'], strict=True)
        if classes is None or name in classes
    }
    crowds = np.array([_is_set(flag) for flag in annotations['iscrowd']], dtype=bool)
    objects = compress(labels, usable & ~crowds)
    if needs_boxes and not any(label in wanted for label in objects):
        report.errors.append(
            f'{where}: has no box to learn or to find, of {len(ids)} annotations, '
            f'{int(crowds.sum())} of them crowds'
        )


def _describe_ignored(ids: list, ignore: list) -> str | None:
    ignored = list(compress(ids, map(_is_set, ignore)))
    if not ignored:
        return None
    return (
        f"annotation {few(ignored)} has 'ignore' ({len(ignored)} of {len(ids)}); it is "
        'left out, in training and in AP'
    )


def _is_set(flag: object) -> bool:
    return flag is not _ABSENT and bool(flag)


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _is_number_id(value: object) -> bool:
    """Whether pycocotools counts with it as int64."""
    is_int = isinstance(value, int) and not isinstance(value, bool)
    return is_int and -(2**63) <= value < 2**63


def _are_number_ids(values: list) -> bool:
    return _types(values) <= {int} and all(map(_is_number_id, set(values)))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_infinite(value: float) -> bool:
    """Whether it is beyond float64, as JSON's whole numbers may be; not for NaN."""
    return abs(value) > sys.float_info.max


def _is_size(value: object) -> bool:
    return _is_number(value) and value > 0 and not _is_infinite(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ''


def _is_box(box: object) -> bool:
    # mmdet leaves NaN out, but would train on an infinite width.
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(_is_number(v) and not _is_infinite(v) for v in box)
    )


def _are_boxes(boxes: list) -> bool:
    is_shaped = (
        _types(boxes) <= {list}
        and set(map(len, boxes)) <= {4}
        and _types(chain.from_iterable(boxes)) <= {int, float}
    )
    if not is_shaped:
        return False
    try:
        numbers = np.fromiter(chain.from_iterable(boxes), float, 4 * len(boxes))
    except OverflowError:  # a whole number beyond float64
        return False
    return not np.isinf(numbers).any()


def _types(values: Iterable) -> set[type]:
    return set(map(type, values))


@dataclass(frozen=True)
class _Rule:
    """What a value has to be.

    Attributes:
        is_valid: whether one value is valid.
        expected: words for a valid value.
        are_valid: whether all values of a list are, faster than one by one.
        is_optional: whether an entry may lack the key.
    """

    is_valid: Callable[[object], bool]
    expected: str
    are_valid: Callable[[list], bool]
    is_optional: bool = False


def _each(is_valid: Callable[[object], bool]) -> Callable[[list], bool]:
    return lambda values: all(map(is_valid, values))


_ABSENT = object()
_ID = _Rule(_is_id, 'a whole number or a text', lambda v: _types(v) <= {int, str})
_NUMBER_ID = _Rule(
    _is_number_id,
    'a whole number of 64 bits, without quotes, as pycocotools needs it; number the '
    'images and categories 1, 2, 3, ..., in the annotations too',
    _are_number_ids,
)
_SIZE = _Rule(_is_size, 'a number of pixels above 0', _each(_is_size))
_TEXT = _Rule(_is_text, 'a text', _each(_is_text))
_BOX = _Rule(_is_box, '4 finite numbers [x, y, width, height]', _are_boxes)
_AREA = _Rule(
    lambda area: area is None or _is_number(area),
    'a number of pixels',
    lambda v: _types(v) <= {int, float, type(None), object},
    is_optional=True,
)
_CROWD = _Rule(
    lambda flag: flag is None or (isinstance(flag, int) and flag in (0, 1)),
    '0 or 1',
    lambda v: (
        _types(v) <= {int, bool, type(None), object} and set(v) <= {0, 1, None, _ABSENT}
    ),
    is_optional=True,
)
_IGNORE = _Rule(lambda _: True, 'anything', lambda _: True, is_optional=True)
_IMAGE = dict(id=_NUMBER_ID, file_name=_TEXT, width=_SIZE, height=_SIZE)
_ANNOTATION = dict(
    id=_ID,
    image_id=_NUMBER_ID,
    category_id=_NUMBER_ID,
    bbox=_BOX,
    area=_AREA,
    iscrowd=_CROWD,
    ignore=_IGNORE,
)
_CATEGORY = dict(id=_NUMBER_ID, name=_TEXT)


def _id(index: int, entry: dict) -> object:
    return entry.get('id', f'number {index}')
