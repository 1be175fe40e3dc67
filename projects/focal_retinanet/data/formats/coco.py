"""Data sets in COCO format, in the layouts of COCO, Roboflow, CVAT and others."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from focal_retinanet.data.coco_file import COCO_LISTS, CocoFileError, read_coco
from focal_retinanet.data.coco_images import backslash_hint
from focal_retinanet.data.formats.splits import (
    SPLIT_NAMES,
    DataFolder,
    FormatError,
    Split,
    split_of_name,
)
from focal_retinanet.data.training_images import evenly_spread

#: What :func:`find_coco` looks for.
LOOKED_FOR = (
    'COCO: annotations/*.json, *.json, or train/, valid/ and test/ with '
    '_annotations.coco.json'
)
# Files of COCO's own that have no boxes, or the same boxes again.
_OTHER_TASKS = ('captions', 'person_keypoints', 'panoptic', 'stuff', 'image_info')
_ROBOFLOW = '_annotations.coco.json'
# A folder with more is one of annotations for each image.
_MOST_FILES = 30
_SAMPLED = 50


def find_coco(folder: Path) -> DataFolder | None:
    """Return the data set if a folder has COCO files, else None.

    Args:
        folder: Folder that is searched.

    Raises:
        FormatError: There are two files for one split, no file for training, a file
            that cannot be read, or one whose images are nowhere.
    """
    readable, problems = _read_all(_json_files(folder))
    if not readable:
        return None
    contents: dict[str | None, dict[Path, dict]] = {}
    for file, coco in readable.items():
        contents.setdefault(_split_of(file, folder), {})[file] = coco
    notes = []
    for file, problem in problems.items():
        split = _split_of(file, folder)
        if not _is_annotation_file(file, readable):
            continue
        if split == 'test' and split not in contents:  # some keep its boxes back
            notes.append(f'There is no test split ({problem}).')
        elif split is not None or 'train' not in contents:
            raise FormatError(
                f'{problem}; correct it, or move it elsewhere if it has no annotations '
                'of these images'
            )
    if 'train' in contents:  # what is for no split is of no use
        contents.pop(None, None)

    for split, found in contents.items():
        if len(found) > 1:
            what = 'all images' if split is None else f'the split {split}'
            raise FormatError(
                f'{folder}: has more than one COCO file for {what}: '
                f'{", ".join(str(f.relative_to(folder)) for f in found)}; leave one, or '
                'name one train.json and one val.json'
            )
    if None in contents:  # one file for all
        contents['train'] = contents.pop(None)
    if 'train' not in contents:
        raise FormatError(
            f'{folder}: has COCO files for {" and ".join(contents)}, and none for '
            'training, such as annotations/train.json'
        )
    splits = {}
    for split in ('train', 'val', 'test'):
        if split in contents:
            ((file, coco),) = contents[split].items()
            img_dir = _image_dir(file, coco, split, folder)
            splits[split] = Split(coco, img_dir, file, ann_file=file)
    notes += _without_supercategory(splits)
    files = [split.source.name for split in splits.values()]
    maker = ' as Roboflow writes it' if files[0] == _ROBOFLOW else ''
    maker = maker or (' as CVAT writes it' if 'default' in files[0] else '')
    return DataFolder(f'COCO{maker}', splits, notes)


def _json_files(folder: Path) -> list[Path]:
    files: list[Path] = []
    names = [name for names in SPLIT_NAMES.values() for name in names]
    for place in (folder, folder / 'annotations', *(folder / name for name in names)):
        found = [file for file in sorted(place.glob('*.json')) if not file.is_dir()]
        if len(found) <= _MOST_FILES:
            files += found
    return [file for file in files if not file.stem.startswith(_OTHER_TASKS)]


def _split_of(file: Path, folder: Path) -> str | None:
    own = split_of_name(file.stem)
    if own is None and file.parent != folder:
        own = split_of_name(file.parent.name)
    return own


def coco_problems(folder: Path) -> list[str]:
    """Return why the JSON files that :func:`find_coco` looks at are no COCO files."""
    return list(_read_all(_json_files(folder))[1].values())


def _read_all(files: list[Path]) -> tuple[dict[Path, dict], dict[Path, str]]:
    """Return the content of the files that are COCO's, and why the others are not."""
    contents, problems = {}, {}
    for file in files:
        try:
            contents[file] = read_coco(file)
        except CocoFileError as error:
            problems[file] = str(error)
    return contents, problems


def _is_annotation_file(file: Path, readable: Iterable[Path]) -> bool:
    """Return whether a file that cannot be read seems meant as one of annotations.

    Tools leave other JSON files in a folder, such as their settings.
    """
    is_named_so = file.name in {other.name for other in readable}
    if is_named_so or split_of_name(file.stem) is not None:
        return True
    try:
        text = file.read_bytes().replace(b'\0', b'')  # of UTF-16
    except OSError:  # no permission: it may be one
        return True
    return sum(f'"{key}"'.encode() in text for key in COCO_LISTS) > 1


def _image_dir(file: Path, coco: dict, split: str, folder: Path) -> Path:
    """Return the folder that has most of a sample of a file's images.

    Raises:
        FormatError: No folder has any of them.
    """
    images = [i for i in coco['images'] if isinstance(i, dict)]
    names = [
        images[i]['file_name']
        for i in evenly_spread(len(images), _SAMPLED)
        if isinstance(images[i].get('file_name'), str)
    ]
    counts = {}
    for place in dict.fromkeys(_image_places(file, split, folder)):
        if place.is_dir():
            counts[place] = sum(os.path.isfile(place / name) for name in names)
    best = max(counts, key=counts.__getitem__)
    if names and not counts[best]:
        raise FormatError(
            f'{file}: none of its images, such as {names[0]}, is in '
            f'{", ".join(map(str, counts))}' + backslash_hint(names[0])
        )
    return best


def _image_places(file: Path, split: str, folder: Path) -> Iterator[Path]:
    subset = file.stem.removeprefix('instances_')
    for place in (folder / 'images', folder):
        for name in (subset, *SPLIT_NAMES[split]):
            yield place / name
    yield from (folder / 'images', file.parent, file.parent / 'images', folder)
    yield from (folder / 'data', folder.parent / 'images', folder.parent)


def _without_supercategory(splits: dict[str, Split]) -> list[str]:
    """Leave out the category that Roboflow adds as the parent of all others.

    The splits are changed in place, and have no file of their own then: the parent may
    have the name of a class, which training would reject.

    Returns:
        A note, if one was left out.
    """
    categories = [c for c in splits['train'].coco['categories'] if isinstance(c, dict)]
    parents = {category.get('supercategory') for category in categories}
    used = {
        annotation.get('category_id')
        for split in splits.values()
        for annotation in split.coco['annotations']
        if isinstance(annotation, dict)
    }
    unused = {
        category.get('id'): category.get('name')
        for category in categories
        if category.get('supercategory') == 'none'
        and category.get('name') in parents
        and category.get('id') not in used
    }
    if not unused:
        return []
    for split in splits.values():
        split.ann_file = None
        split.coco['categories'] = [
            c
            for c in split.coco['categories']
            if not isinstance(c, dict) or c.get('id') not in unused
        ]
    return [
        f'The category {", ".join(map(str, unused.values()))} with the id '
        f'{", ".join(map(str, unused))} is the parent of the others and has no object: '
        'it is no class.'
    ]
