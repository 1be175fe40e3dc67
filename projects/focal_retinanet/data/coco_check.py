"""Look through a COCO annotation file before a training trips over it.

mmdet leaves out what it cannot use without a word, and labels by the order of
the file's categories whatever the order of ``classes``; here each such thing
gets one line that names it.
"""

import contextlib
import difflib
import gc
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, compress
from pathlib import Path

import numpy as np

_SHOWN = 3


class CocoFileError(ValueError):
    """A file is no COCO annotation file, for the reason given."""


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
) -> CocoReport:
    """Check an annotation file, its images and its classes against each other.

    Args:
        ann_file: COCO JSON; boxes are xywh in absolute pixels.
        img_dir: folder of the images; None leaves them unchecked.
        classes: names that the data set's ``metainfo`` gives.
        num_classes: what the model's head is built for.
        coco: what :func:`read_coco` gave for this file, if it was read already.
    """
    report = CocoReport()
    where = str(ann_file)
    try:
        coco = read_coco(where) if coco is None else coco
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
    if classes is not None:
        _check_classes(where, classes, categories['name'], num_classes, report)
    _check_annotations(where, images, annotations, categories, classes, report)
    if img_dir is not None:
        _check_files(where, Path(img_dir), images['file_name'], report)
    return report


def read_coco(ann_file: str | Path) -> dict:
    """The content of an annotation file, with its three lists.

    Raises:
        CocoFileError: it is not there, is not JSON, or lacks one of the lists
            ``images``, ``annotations`` and ``categories``.
    """
    try:
        with open(ann_file) as file, _no_garbage_collection():
            coco = json.load(file)
    except FileNotFoundError as error:
        raise CocoFileError(
            f'{ann_file}: no such annotation file; is data_root right?'
        ) from error
    except OSError as error:  # a folder, no permission
        raise CocoFileError(
            f'{ann_file}: cannot be read ({error.strerror})'
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CocoFileError(f'{ann_file}: is not JSON ({error})') from error
    wanted = ('images', 'annotations', 'categories')
    missing = [
        key
        for key in wanted
        if not isinstance(coco, dict) or not isinstance(coco.get(key), list)
    ]
    if missing:
        raise CocoFileError(
            f'{ann_file}: has no list {_names(missing)}; a COCO detection file has '
            f'{", ".join(wanted)}'
        )
    return coco


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """JSON has no cycles, and looking for them takes a third of the parsing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


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
            f'{where}: {kind} {_names(no_dict)} is no object with keys and values'
        )
        entries = [entry for entry in entries if isinstance(entry, dict)]
    columns = {key: [entry.get(key, _ABSENT) for entry in entries] for key in rules}
    for key, rule in rules.items():
        values = columns[key]
        if rule.are_valid(values):
            continue
        lacking = [_id(i, e) for i, e in enumerate(entries) if values[i] is _ABSENT]
        if lacking:
            report.errors.append(f'{where}: {kind} {_names(lacking)} has no {key!r}')
        wrong = [
            _id(i, e)
            for i, e in enumerate(entries)
            if values[i] is not _ABSENT and not rule.is_valid(values[i])
        ]
        if wrong:
            report.errors.append(
                f'{where}: {kind} {_names(wrong)} has a {key} that is not '
                f'{rule.expected}'
            )
    ids = columns['id']
    if not _ID.are_valid(ids):
        ids = [id_ for id_ in ids if _ID.is_valid(id_)]
    if len(set(ids)) < len(ids):
        double = [id_ for id_, count in Counter(ids).items() if count > 1]
        report.errors.append(
            f'{where}: {kind} id {_names(double)} stands more than once'
        )
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
                f'{where}: {owner} name {_names(double)} more than once, so labels and '
                'names do not fit together; name each once'
            )
            return
    unknown = [name for name in classes if name not in names]
    if unknown:
        close = difflib.get_close_matches(unknown[0], names, n=1, cutoff=0.5)
        hint = f' (is {unknown[0]} {close[0]}?)' if close else ''
        report.errors.append(
            f'{where}: class {_names(unknown)} of metainfo is no category of the file, '
            f'which has {_names(names)}{hint}; set metainfo=dict(classes=...) of the '
            'data set'
        )
        return
    if num_classes is not None and len(classes) != num_classes:
        report.errors.append(
            f'the head is built for {num_classes} classes, but the data set of {where} '
            f'has {len(classes)} ({_names(classes)}); set '
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
            f'{where}: category {_names(left_out)} is not among the classes of '
            'metainfo; its boxes are left out'
        )


def _check_annotations(
    where: str,
    images: dict[str, list],
    annotations: dict[str, list],
    categories: dict[str, list],
    classes: Sequence[str] | None,
    report: CocoReport,
) -> None:
    ids, labels = annotations['id'], annotations['category_id']
    unknown = set(labels) - set(categories['id'])
    if unknown:
        no_category = [
            id_ for id_, label in zip(ids, labels, strict=True) if label in unknown
        ]
        report.errors.append(
            f'{where}: annotation {_names(no_category)} has the unknown category_id '
            f'{_names(sorted(unknown, key=str))}; add it to categories, or remove it'
        )
    number = {id_: index for index, id_ in enumerate(images['id'])}
    image = np.array([number.get(i, -1) for i in annotations['image_id']], dtype=int)
    if (image < 0).any():
        no_image = compress(ids, image < 0)
        report.errors.append(
            f'{where}: annotation {_names(no_image)} has an image_id that is no image; '
            'add the image, or remove it'
        )
    usable = _are_usable(annotations, images, image)
    degenerate = ~usable & (image >= 0)
    if degenerate.any():
        report.warnings.append(
            f'{where}: annotation {_names(compress(ids, degenerate))} has a box '
            'narrower or lower than a pixel, or outside of its image, or an area of '
            '0; it is left out'
        )
    wanted = {
        id_
        for id_, name in zip(categories['id'], categories['name'], strict=True)
        if classes is None or name in classes
    }
    if not report.errors and not any(
        label in wanted for label in compress(labels, usable)
    ):
        report.errors.append(
            f'{where}: has no box to learn or to find, of {len(ids)} annotations'
        )


def _are_usable(
    annotations: dict[str, list], images: dict[str, list], image: np.ndarray
) -> np.ndarray:
    """Whether mmdet uses each box; the same conditions as its CocoDataset's.

    Args:
        annotations: ``bbox``, xywh in absolute pixels, and ``area`` of N boxes.
        images: ``width`` and ``height``.
        image: (N,) number of each box's image; -1 for none.

    Returns:
        (N,) bool; False for a box with a NaN, and for one that has no image.
    """
    numbers = chain.from_iterable(annotations['bbox'])
    bboxes = np.fromiter(numbers, float, 4 * len(image)).reshape(-1, 4)
    sizes = np.array([images['width'], images['height']], dtype=float).T
    sizes = np.concatenate([sizes, [[0, 0]]])[image]  # (N, 2)
    has_area = np.array([not area <= 0 for area in annotations['area']], dtype=bool)
    low, extent = bboxes[:, :2], bboxes[:, 2:]
    is_inside = np.minimum(low + extent, sizes) > np.maximum(low, 0)
    return (is_inside & (extent >= 1)).all(1) & has_area & (image >= 0)


def _check_files(
    where: str, img_dir: Path, file_names: list[str], report: CocoReport
) -> None:
    # One listing a folder: asking for each of 118,000 files takes minutes on a
    # network disk.
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
    if missing:
        report.errors.append(
            f'{where}: image {_names(missing)} is missing on disk '
            f'({len(missing)} of {len(file_names)}); is data_prefix right?'
        )


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


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
        expected: what is valid, in words.
        are_valid: whether all values of a list are, faster than one by one.
    """

    is_valid: Callable[[object], bool]
    expected: str
    are_valid: Callable[[list], bool]


def _each(is_valid: Callable[[object], bool]) -> Callable[[list], bool]:
    return lambda values: all(map(is_valid, values))


_ABSENT = object()
_ID = _Rule(_is_id, 'a whole number or a text', lambda v: _types(v) <= {int, str})
_SIZE = _Rule(_is_size, 'a number of pixels above 0', _each(_is_size))
_TEXT = _Rule(_is_text, 'a text', _each(_is_text))
_BOX = _Rule(_is_box, '4 finite numbers [x, y, width, height]', _are_boxes)
_AREA = _Rule(  # mmdet reads it of every box
    _is_number, 'a number of pixels', lambda v: _types(v) <= {int, float}
)
_IMAGE = dict(id=_ID, file_name=_TEXT, width=_SIZE, height=_SIZE)
_ANNOTATION = dict(id=_ID, image_id=_ID, category_id=_ID, bbox=_BOX, area=_AREA)
_CATEGORY = dict(id=_ID, name=_TEXT)


def _id(index: int, entry: dict) -> object:
    return entry.get('id', f'number {index}')


def _names(items: Iterable) -> str:
    """The first few, and how many there are."""
    items = list(items)
    shown = ', '.join(str(item) for item in items[:_SHOWN])
    more = len(items) - _SHOWN
    return f'{shown} and {more} more' if more > 0 else shown
