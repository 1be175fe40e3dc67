"""The data check of a folder, before a config is written for it."""

from focal_retinanet.cli.naming import few
from focal_retinanet.data.coco_check import check_coco
from focal_retinanet.data.formats.splits import DataFolder, FormatError


def check_found(data: DataFolder) -> list[str]:
    """Return the warnings of :func:`check_coco` about all splits.

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
            used = {a['category_id'] for a in split.coco['annotations']}
            unused = [c for c in split.coco['categories'] if c['id'] not in used]
            if unused and used:
                warnings.append(f'{where}: has no {few(c["name"] for c in unused)}')
    if errors:
        raise FormatError('\n       '.join(dict.fromkeys(errors)))
    return list(dict.fromkeys(warnings))
