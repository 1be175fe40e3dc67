"""The data check of a folder, before a config is written for it."""

from pathlib import Path

from focal_retinanet.cli.naming import few
from focal_retinanet.data.coco_check import check_coco
from focal_retinanet.data.formats.splits import DataFolder, FormatError, Split

# Pixels of a box that is as good as none.
_THIN = 2


def check_found(data: DataFolder) -> list[str]:
    """Return warnings about all splits, those of :func:`check_coco` and some more.

    Args:
        data: data set as it was read.

    Raises:
        FormatError: with all errors of all splits.
    """
    try:
        classes = data.classes
    except (KeyError, TypeError):  # entries that the check names
        classes = None
    errors, warnings = [], []
    for name, split in data.splits.items():
        where = split.ann_file or f'{split.source}, {name}'
        report = check_coco(
            where, split.img_dir, classes, coco=split.coco, needs_boxes=name != 'test'
        )
        errors += report.errors
        warnings += report.warnings
        if not report.errors:
            warnings += [f'{where}: {text}' for text in _doubts(split.coco)]
    if errors:
        raise FormatError('\n       '.join(dict.fromkeys(errors)))
    train, val = (_image_files(data.splits[name]) for name in ('train', 'val'))
    if both := sorted(train & val):
        warnings.append(
            f'{len(both)} of {len(val)} validation images are training images, too, so '
            f'AP says little: {few(both)}'
        )
    return list(dict.fromkeys(warnings))


def _image_files(split: Split) -> set[Path]:
    return {split.img_dir / image['file_name'] for image in split.coco['images']}


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
