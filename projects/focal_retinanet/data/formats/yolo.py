"""Data sets in YOLO format: data.yaml, images, and a text file of boxes for each image.

The package supervision reads the boxes. Which images belong to a split is found here,
as Ultralytics finds it: a split is a folder, a text file of paths, or a list of these.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from focal_retinanet.cli.naming import few
from focal_retinanet.data.coco_images import backslash_hint
from focal_retinanet.data.formats.splits import (
    SPLIT_NAMES,
    DataFolder,
    FormatError,
    read_list,
)
from focal_retinanet.data.formats.with_supervision import (
    boxes_alone,
    check_label_files,
    import_supervision,
    to_split,
)
from focal_retinanet.data.image_files import IMAGE_SUFFIXES, files_below

#: What :func:`find_yolo` looks for.
LOOKED_FOR = 'YOLO: data.yaml or another *.yaml that has names and train'
_IF_OUTSIDE = (
    'the numbers of YOLO are relative to the size of the image, from 0 to 1: are these '
    'pixels?'
)


def find_yolo(folder: Path) -> DataFolder | None:
    """Return the data set if a folder has YOLO's data.yaml, else None.

    Args:
        folder: Folder that is searched.

    Raises:
        FormatError: There are several such files, or one whose images or labels cannot
            be read.
        UserError: The package supervision is not installed.
    """
    files = {
        file: content
        for file, content in _read_all(folder)[0].items()
        if isinstance(content, dict) and {'names', 'train'} <= {*content}
    }
    if not files:
        return None
    if len(files) > 1:
        raise FormatError(
            f'{folder}: has more than one file of YOLO: '
            f'{", ".join(file.name for file in files)}; leave one'
        )
    ((yaml_file, content),) = files.items()
    _check_names(content, yaml_file)
    supervision = import_supervision('YOLO', folder)
    images, notes = {}, []
    for split, names in SPLIT_NAMES.items():
        entries = {name: content[name] for name in names if content.get(name)}
        if not entries:
            continue
        if len(entries) > 1:
            raise FormatError(
                f'{yaml_file}: has {" and ".join(entries)}, which are one split; leave '
                'one'
            )
        ((_, entry),) = entries.items()
        try:
            listed = list(_images(entry, yaml_file, content, split))
        except FormatError as error:
            if split != 'test':  # which exports name whether they have it or not
                raise
            notes.append(f'There is no test split ({error}).')
            continue
        images[split] = list(dict.fromkeys(listed))
        if repeated := len(listed) - len(images[split]):
            notes.append(
                f'{repeated} images are listed more than once for {split}: each counts '
                'once.'
            )
    if 'train' not in images:
        raise FormatError(f'{yaml_file}: train names no images')
    everything = [file for files in images.values() for file in files]
    check_label_files(everything, _label_file, yaml_file)
    img_dir = _common_folder(everything)
    splits = {}
    for split, files in images.items():
        classes, boxes = _boxes(supervision, files, yaml_file)
        splits[split] = to_split(
            boxes, classes, img_dir, yaml_file, _label_file, _IF_OUTSIDE
        )
        splits[split].is_size_known = False  # numbers are relative to the image
    unlabelled = sum(not _label_file(file).is_file() for file in everything)
    if unlabelled:
        notes.append(
            f'{unlabelled} images have no label file: they count as images without an '
            'object.'
        )
    return DataFolder('YOLO', splits, notes)


def yolo_problems(folder: Path) -> list[str]:
    """Return why YAML files that :func:`find_yolo` looks at cannot be read."""
    return _read_all(folder)[1]


def _read_all(folder: Path) -> tuple[dict[Path, object], list[str]]:
    """Return the content of each YAML file, and why the others cannot be read."""
    contents, problems = {}, []
    for file in sorted([*folder.glob('*.yaml'), *folder.glob('*.yml')]):
        try:
            contents[file] = yaml.safe_load(file.read_text(encoding='utf-8-sig'))
        except UnicodeDecodeError as error:
            problems.append(
                f'{file}: is not YAML in UTF-8 ({error}); save it in this encoding'
            )
        except (OSError, ValueError, yaml.YAMLError) as error:
            reason = ' '.join(str(error).split())
            problems.append(f'{file}: is not YAML ({reason}); correct it')
    return contents, problems


def _check_names(content: dict, yaml_file: Path) -> None:
    """Check that each class has its number and a name.

    Raises:
        FormatError: The names are no list and no numbered ones, or their number is
            not ``nc``.
    """
    names = content['names']
    if isinstance(names, dict):
        expected = [str(i) for i in range(len(names))]
        if sorted(map(str, names)) != sorted(expected):
            raise FormatError(
                f'{yaml_file}: names has the keys {", ".join(map(str, names))}, and '
                f'{len(names)} classes have the numbers 0 to {len(names) - 1}; name the '
                'missing ones, too, or number the classes anew here and in the label '
                'files'
            )
        names = list(names.values())
    if not isinstance(names, list) or not names:
        raise FormatError(
            f'{yaml_file}: names is {names!r}, and has to be a list of the classes, '
            'such as [helmet, vest]'
        )
    for name in names:
        # YAML reads no, yes, on and off as booleans, and 1.10 as the number 1.1.
        if type(name) not in (str, int) or name == '':
            raise FormatError(
                f'{yaml_file}: names has {name!r}, as YAML reads it, which is no name; '
                "write the name in quotes, such as 'no'"
            )
    if content.get('nc') not in (None, len(names)):
        raise FormatError(
            f'{yaml_file}: nc is {content["nc"]!r}, and names has {len(names)} classes: '
            f'{few(names)}; correct nc or names'
        )


def _images(
    entry: str | list, yaml_file: Path, content: dict, split: str
) -> Iterator[Path]:
    """Yield the image files of a split.

    Raises:
        FormatError: There is no such folder or list, or no image in it.
    """
    places = [
        _existing(str(part), yaml_file, content, split)
        for part in (entry if isinstance(entry, list) else [entry])
    ]
    count = 0
    for place in places:
        for file in _listed(place) if place.is_file() else files_below(place):
            if file.suffix.lower() in IMAGE_SUFFIXES:
                count += 1
                yield file
    if not count:
        raise FormatError(
            f'{yaml_file}: {split} has no image '
            f'({", ".join(sorted(IMAGE_SUFFIXES))}) in {", ".join(map(str, places))}'
        )


def _existing(part: str, yaml_file: Path, content: dict, split: str) -> Path:
    here = yaml_file.parent
    inside = part.removeprefix('./')
    while inside.startswith('../'):  # Roboflow writes ../train/images
        inside = inside.removeprefix('../')
    places = [here / inside, here / part]
    if content.get('path'):  # relative to this file, or to a folder of another machine
        places.insert(0, here / str(content['path']) / part)
    for place in places:
        if place.exists():
            return Path(os.path.normpath(place))
    raise FormatError(
        f'{yaml_file}: {split} is {part}, and there is no '
        f'{" or ".join(dict.fromkeys(os.path.normpath(place) for place in places))}'
        + backslash_hint(part)
    )


def _listed(file: Path) -> Iterator[Path]:
    """Yield the paths in a text file; those with ./ are relative to the file."""
    for line in read_list(file):
        path = Path(os.path.normpath(file.parent / line))
        if not path.is_file():
            raise FormatError(
                f'{file}: lists {line}, and there is no {path}{backslash_hint(line)}'
            )
        yield path


def _label_file(image: Path) -> Path:
    return _label_dir(image.parent) / f'{image.stem}.txt'


def _label_dir(image_dir: Path) -> Path:
    """Return the folder of the labels: the last ``images`` of the path is ``labels``."""
    parts = list(image_dir.parts)
    for i in reversed(range(len(parts))):
        if parts[i] == 'images':
            parts[i] = 'labels'
            return Path(*parts)
    return image_dir


def _boxes(supervision, files: Iterable[Path], yaml_file: Path) -> tuple[list, dict]:
    """Return the names of the classes, and the boxes by image file.

    Raises:
        FormatError: A label file cannot be read.
    """
    files = set(files)
    boxes, classes = {}, []
    for folder in sorted({file.parent for file in files}):
        try:
            with boxes_alone(supervision.dataset.formats.yolo, '_with_seg_mask'):
                data = supervision.DetectionDataset.from_yolo(
                    str(folder), str(_label_dir(folder)), str(yaml_file)
                )
        except UnicodeDecodeError as error:
            labels = sorted(_label_file(file) for file in files)
            raise FormatError(
                f'{next(filter(_is_no_text, labels), yaml_file)}: is no text in UTF-8 '
                f'({error}); save it in this encoding'
            ) from error
        except (ValueError, OSError) as error:
            raise FormatError(f'{yaml_file}: {error}') from error
        classes = data.classes
        for path, found in data.annotations.items():
            if Path(path) in files:
                boxes[Path(path)] = found
    if missing := sorted(str(file) for file in files - boxes.keys()):
        raise FormatError(
            f'{yaml_file}: {few(missing)} cannot be read; is it a link to nothing?'
        )
    return classes, boxes


def _is_no_text(file: Path) -> bool:
    try:
        file.read_text(encoding='utf-8')
    except UnicodeDecodeError:
        return True
    except OSError:  # an image may have no label file
        return False
    return False


def _common_folder(files: Iterable[Path]) -> Path:
    return Path(os.path.commonpath([file.parent for file in files]))
