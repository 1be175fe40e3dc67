"""Look through a COCO annotation file before a training trips over it.

mmdet leaves out what it can not use without a word, and labels by the order of
the file's categories whatever the order of ``classes``; here each such thing
gets one line that names it.
"""

import difflib
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

_SHOWN = 3


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
) -> CocoReport:
    """Check an annotation file, its images and its classes against each other.

    Args:
        ann_file: COCO JSON; boxes are xywh in absolute pixels.
        img_dir: folder of the images; None leaves them unchecked.
        classes: names that the data set's ``metainfo`` gives.
        num_classes: what the model's head is built for.
    """
    report = CocoReport()
    where = str(ann_file)
    coco = _read(where, report)
    if coco is None:
        return report
    images, annotations, categories = (
        coco[key] for key in ('images', 'annotations', 'categories')
    )
    _check_entries(where, images, annotations, categories, report)
    if report.errors:  # what follows relies on these entries
        return report
    if classes is not None:
        _check_classes(where, classes, categories, num_classes, report)
    _check_annotations(where, images, annotations, categories, classes, report)
    if img_dir is not None:
        _check_files(where, Path(img_dir), images, report)
    return report


def _read(where: str, report: CocoReport) -> dict | None:
    try:
        with open(where) as file:
            coco = json.load(file)
    except FileNotFoundError:
        report.errors.append(f'{where}: no such annotation file; is data_root right?')
        return None
    except OSError as error:  # a folder, no permission
        report.errors.append(f'{where}: can not be read ({error.strerror})')
        return None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        report.errors.append(f'{where}: is not JSON ({error})')
        return None
    wanted = ('images', 'annotations', 'categories')
    missing = [
        key
        for key in wanted
        if not isinstance(coco, dict) or not isinstance(coco.get(key), list)
    ]
    if missing:
        report.errors.append(
            f'{where}: has no list {_names(missing)}; a COCO detection file has '
            f'{", ".join(wanted)}'
        )
        return None
    return coco


def _check_entries(
    where: str, images: list, annotations: list, categories: list, report: CocoReport
) -> None:
    """Every entry has its keys, of the right kind, and no two have the same id."""
    for kind, entries, keys in (
        ('image', images, _IMAGE),
        ('annotation', annotations, _ANNOTATION),
        ('category', categories, _CATEGORY),
    ):
        no_dict = [entry for entry in entries if not isinstance(entry, dict)]
        if no_dict:
            report.errors.append(
                f'{where}: {kind} {_names(no_dict)} is no object with keys and values'
            )
        numbered = [(i, e) for i, e in enumerate(entries) if isinstance(e, dict)]
        for key, (is_valid, expected) in keys.items():
            lacking = [_id(i, e) for i, e in numbered if key not in e]
            if lacking:
                report.errors.append(
                    f'{where}: {kind} {_names(lacking)} has no {key!r}'
                )
            wrong = [
                _id(i, e) for i, e in numbered if key in e and not is_valid(e[key])
            ]
            if wrong:
                report.errors.append(
                    f'{where}: {kind} {_names(wrong)} has a {key} that is not {expected}'
                )
        ids = Counter(e['id'] for _, e in numbered if 'id' in e and _is_id(e['id']))
        double = [id_ for id_, count in ids.items() if count > 1]
        if double:
            report.errors.append(
                f'{where}: {kind} id {_names(double)} stands more than once'
            )


def _check_classes(
    where: str,
    classes: Sequence[str],
    categories: list[dict],
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
    names = [category['name'] for category in categories]
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
    images: list[dict],
    annotations: list[dict],
    categories: list[dict],
    classes: Sequence[str] | None,
    report: CocoReport,
) -> None:
    size = {image['id']: (image['width'], image['height']) for image in images}
    category_ids = {category['id'] for category in categories}
    no_category = [a['id'] for a in annotations if a['category_id'] not in category_ids]
    if no_category:
        unknown = {a['category_id'] for a in annotations} - category_ids
        report.errors.append(
            f'{where}: annotation {_names(no_category)} has the unknown category_id '
            f'{_names(sorted(unknown, key=str))}; add it to categories, or remove it'
        )
    no_image = [a['id'] for a in annotations if a['image_id'] not in size]
    if no_image:
        report.errors.append(
            f'{where}: annotation {_names(no_image)} has an image_id that is no image; '
            'add the image, or remove it'
        )
    placed = [a for a in annotations if a['image_id'] in size]
    usable = [a for a in placed if _is_usable(a, *size[a['image_id']])]
    if len(usable) < len(placed):
        kept = {a['id'] for a in usable}
        degenerate = [a['id'] for a in placed if a['id'] not in kept]
        report.warnings.append(
            f'{where}: annotation {_names(degenerate)} has a box narrower or lower than '
            'a pixel, or outside of its image, or an area of 0; it is left out'
        )
    wanted = {c['id'] for c in categories if classes is None or c['name'] in classes}
    if not report.errors and not any(a['category_id'] in wanted for a in usable):
        report.errors.append(
            f'{where}: has no box to learn or to find, of {len(annotations)} annotations'
        )


def _check_files(
    where: str, img_dir: Path, images: list[dict], report: CocoReport
) -> None:
    # One listing a folder: asking for each of 118,000 files takes minutes on a
    # network disk.
    listing: dict[Path, set[str]] = {}
    missing = []
    for image in images:
        path = img_dir / image['file_name']
        if path.parent not in listing:
            is_dir = path.parent.is_dir()
            listing[path.parent] = set(os.listdir(path.parent)) if is_dir else set()
        if path.name not in listing[path.parent]:
            missing.append(path)
    if missing:
        report.errors.append(
            f'{where}: image {_names(missing)} is missing on disk '
            f'({len(missing)} of {len(images)}); is data_prefix right?'
        )


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_size(value: object) -> bool:
    return _is_number(value) and 0 < value < math.inf


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ''


def _is_box(box: object) -> bool:
    # mmdet leaves NaN out, but would train on an infinite width.
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(_is_number(v) and not math.isinf(v) for v in box)
    )


class _Rule(NamedTuple):
    is_valid: Callable[[object], bool]
    expected: str


_ID = _Rule(_is_id, 'a whole number or a text')
_SIZE = _Rule(_is_size, 'a number of pixels above 0')
_IMAGE = dict(id=_ID, file_name=_Rule(_is_text, 'a text'), width=_SIZE, height=_SIZE)
_ANNOTATION = dict(
    id=_ID,
    image_id=_ID,
    category_id=_ID,
    bbox=_Rule(_is_box, '4 finite numbers [x, y, width, height]'),
    area=_Rule(_is_number, 'a number of pixels'),  # mmdet reads it of every box
)
_CATEGORY = dict(id=_ID, name=_Rule(_is_text, 'a text'))


def _id(index: int, entry: dict) -> object:
    return entry.get('id', f'number {index}')


def _is_usable(annotation: dict, width: float, height: float) -> bool:
    """Whether mmdet uses a box; the same conditions as its CocoDataset's."""
    x, y, w, h = annotation['bbox']
    if math.isnan(x + y + w + h) or w < 1 or h < 1 or annotation['area'] <= 0:
        return False
    return min(x + w, width) > max(x, 0) and min(y + h, height) > max(y, 0)


def _names(items: Iterable) -> str:
    """The first few, and how many there are."""
    items = list(items)
    shown = ', '.join(str(item) for item in items[:_SHOWN])
    more = len(items) - _SHOWN
    return f'{shown} and {more} more' if more > 0 else shown
