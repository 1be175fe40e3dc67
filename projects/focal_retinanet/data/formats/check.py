"""The data check of a folder, before a config is written for it."""

import os
from collections import Counter
from collections.abc import Iterator
from itertools import combinations

from focal_retinanet.cli.naming import few
from focal_retinanet.data.coco_check import check_coco
from focal_retinanet.data.formats.splits import DataFolder, FormatError, Split

# Pixels of a box that is as good as none.
_THIN = 2
# What the images of a split are called.
_SPLITS = dict(train='training', val='validation', test='test')


def check_whole(data: DataFolder) -> None:
    """Check the one split of a data set, before it is divided.

    Afterwards, an annotation whose image is on neither side would be gone, and an id
    that stands twice might be there once on each side.

    Raises:
        FormatError: Entries are invalid, or do not fit together.
    """
    split = data.splits['train']
    report = check_coco(split.ann_file or split.source, coco=split.coco)
    if report.errors:
        raise FormatError('\n       '.join([*report.errors, *report.warnings]))


def check_found(data: DataFolder) -> list[str]:
    """Return warnings about all splits, those of :func:`check_coco` and some more.

    Args:
        data: Data set as it was read.

    Raises:
        FormatError: The data have errors; it has those of all splits, and the warnings.
    """
    try:
        classes = data.classes
    except (KeyError, TypeError):  # entries that the check names
        classes = None
    errors, warnings = [], []
    for name, split in data.splits.items():
        where = split.ann_file or f'{split.source}, {name}'
        report = check_coco(
            where,
            split.img_dir,
            classes,
            coco=split.coco,
            needs_boxes=name != 'test',
            is_size_known=split.is_size_known,
        )
        found = [*report.warnings, *split.doubts]
        if report.errors:  # whose cause may be among the warnings
            errors += [*report.errors, *found]
        else:
            doubts = (*_repeated(split), *_doubts(split.coco))
            warnings += [*found, *(f'{where}: {text}' for text in doubts)]
    if errors:
        raise FormatError('\n       '.join(dict.fromkeys(errors)))
    return list(dict.fromkeys([*warnings, *_shared(data)]))


def _shared(data: DataFolder) -> Iterator[str]:
    """Describe the images that two splits have."""
    files = {
        name: set(_image_files(data.splits[name]))
        for name in _SPLITS
        if name in data.splits
    }
    for first, second in combinations(files, 2):
        if both := sorted(files[first] & files[second]):
            yield (
                f'{len(both)} of {len(files[second])} {_SPLITS[second]} images are '
                f'{_SPLITS[first]} images, too, so AP on them says little: {few(both)}'
            )


def _repeated(split: Split) -> Iterator[str]:
    """Describe the images that a split has more than once."""
    counts = Counter(_image_files(split))
    repeated = [file for file, count in counts.items() if count > 1]
    if repeated:
        yield (
            f'lists image {few(repeated)} more than once ({len(repeated)} of '
            f'{len(counts)}); the boxes of one entry are background for the other: make '
            'them one entry'
        )


def _image_files(split: Split) -> list[str]:
    return [
        os.path.normpath(split.img_dir / image['file_name'])
        for image in split.coco['images']
    ]


def _doubts(coco: dict) -> list[str]:
    """Return what is valid in a file, and still may be a mistake."""
    doubts = []
    annotations = coco['annotations']
    used = {annotation['category_id'] for annotation in annotations}
    unused = [c['name'] for c in coco['categories'] if c['id'] not in used]
    if unused and used:
        doubts.append(f'has no {few(unused)}')
    thin = [a for a in annotations if 1 <= min(a['bbox'][2:]) < _THIN]
    if thin:
        names = {image['id']: image['file_name'] for image in coco['images']}
        doubts.append(
            f'{len(thin)} of {len(annotations)} boxes are narrower or lower than {_THIN} '
            f'pixels, in {few(dict.fromkeys(names[a["image_id"]] for a in thin))}'
        )
    return doubts
