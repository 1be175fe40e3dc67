"""Data sets in Pascal VOC format: an XML file for each image.

The package supervision reads the XML files. Their folder, the images and the lists of
the splits are found here.
"""

from pathlib import Path
from xml.etree.ElementTree import ParseError

from focal_retinanet.data.formats.splits import (
    SPLIT_NAMES,
    DataFolder,
    FormatError,
    Split,
    split_of_name,
)
from focal_retinanet.data.formats.with_supervision import import_supervision, to_coco
from focal_retinanet.data.image_files import IMAGE_SUFFIXES

#: What :func:`find_voc` looks for.
LOOKED_FOR = (
    'Pascal VOC: *.xml, Annotations/*.xml, annotations/*.xml, or train/, valid/ and '
    'test/ with *.xml'
)


def find_voc(folder: Path) -> DataFolder | None:
    """Return the data set if a folder has XML files of Pascal VOC, else None.

    Args:
        folder: folder that is searched.

    Raises:
        FormatError: the XML files or their images cannot be read, or a list names an
            image that is not there.
        UserError: the package supervision is not installed.
    """
    names = [name for names in SPLIT_NAMES.values() for name in names]
    together = [folder / 'Annotations', folder / 'annotations', folder]
    apart = [folder / name for name in names]
    sources = [place for place in together if _stems(place)][:1]
    by_split = {}
    if not sources:
        sources = [place for place in apart if _stems(place)]
        by_split = {place: split_of_name(place.name) for place in sources}
    if not sources:
        return None

    supervision = import_supervision('Pascal VOC', folder)
    boxes: dict[str, dict] = {}
    names_of_all: set[str] = set()
    for source in sources:
        classes, found = _read(supervision, source, folder)
        named = {
            path: [classes[label] for label in detections.class_id.tolist()]
            if len(detections)
            else []
            for path, detections in found.items()
        }
        names_of_all.update(name for labels in named.values() for name in labels)
        boxes[by_split.get(source, 'train')] = (found, named)
    classes = sorted(names_of_all)  # the same in all splits
    for found, named in boxes.values():
        for path, labels in named.items():
            if labels:
                found[path].class_id[:] = [classes.index(label) for label in labels]

    parts = {split: found for split, (found, _) in boxes.items()}
    notes = []
    if not by_split:
        parts, notes = _listed(parts['train'], sources[0], folder)
    if 'train' not in parts:
        raise FormatError(f'{folder}: has XML files for {" and ".join(parts)} alone')
    splits = {}
    for split, found in parts.items():
        img_dir = next(iter(found)).parent
        splits[split] = Split(to_coco(found, classes, img_dir), img_dir, sources[0])
    return DataFolder('Pascal VOC', splits, notes)


def _stems(folder: Path) -> set[str]:
    return {file.stem for file in folder.glob('*.xml')}


def _read(supervision, source: Path, folder: Path) -> tuple[list[str], dict]:
    """Return the classes of a folder of XML files, and the boxes by image file.

    Raises:
        FormatError: an XML file cannot be read, or there is no image for one.
    """
    stems = _stems(source)
    img_dir = _image_dir(stems, source, folder)
    try:
        data = supervision.DetectionDataset.from_pascal_voc(str(img_dir), str(source))
    except (ParseError, ValueError, AttributeError, OSError) as error:
        raise FormatError(
            f'{source}: an XML file is not as Pascal VOC has it ({error})'
        ) from error
    boxes = {Path(path): found for path, found in data.annotations.items()}
    boxes = {path: found for path, found in boxes.items() if path.stem in stems}
    missing = sorted(stems - {path.stem for path in boxes})
    if missing:
        raise FormatError(
            f'{source}: there is no image in {img_dir} for {missing[0]}.xml '
            f'({len(missing)} of {len(stems)} XML files)'
        )
    return data.classes, boxes


def _image_dir(stems: set[str], source: Path, folder: Path) -> Path:
    """Return the folder that has an image for most XML files.

    Raises:
        FormatError: no folder has any.
    """
    counts = {}
    for place in dict.fromkeys(
        [
            *(folder / name for name in ('JPEGImages', 'images', 'Images')),
            *(source, source / 'images', folder),
            *(folder.parent / name for name in ('JPEGImages', 'images', 'Images')),
        ]
    ):
        if place.is_dir():
            counts[place] = len(
                {f.stem for f in place.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES}
                & stems
            )
    best = max(counts, key=counts.__getitem__)
    if not counts[best]:
        raise FormatError(
            f'{source}: has XML files, and there is no image of their names in '
            f'{", ".join(map(str, counts))}'
        )
    return best


def _listed(boxes: dict, source: Path, folder: Path) -> tuple[dict, list[str]]:
    """Return the boxes of each split that a list names, and notes.

    Raises:
        FormatError: a list names an image that is not there.
    """
    for place in (folder / 'ImageSets' / 'Main', source, folder):
        lists = {
            split: file
            for split in SPLIT_NAMES
            if (file := place / f'{split}.txt').is_file()
        }
        if 'train' in lists:
            break
    else:
        return {'train': boxes}, []
    by_stem = {path.stem: path for path in boxes}
    parts: dict[str, dict] = {}
    for split, file in lists.items():
        names = [
            line.split()[0] for line in file.read_text().splitlines() if line.strip()
        ]
        stems = [Path(name).stem if Path(name).suffix else name for name in names]
        missing = [stem for stem in stems if stem not in by_stem]
        if missing and split != 'test':  # VOC keeps the annotations of test back
            raise FormatError(
                f'{file}: lists {missing[0]}, and there is no such XML file '
                f'({len(missing)} of {len(stems)})'
            )
        if not missing:
            parts[split] = {by_stem[stem]: boxes[by_stem[stem]] for stem in stems}
    used = sum(map(len, parts.values()))
    note = (
        f'The splits are those of {", ".join(lists[s].name for s in parts)} in {place}.'
    )
    if used < len(boxes):
        note += f' {len(boxes) - used} images are in none.'
    return parts, [note]
