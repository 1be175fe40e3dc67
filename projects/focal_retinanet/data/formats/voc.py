"""Data sets in Pascal VOC format: an XML file for each image.

The package supervision reads the XML files. Their folder, the images and the lists of
the splits are found here.
"""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.etree.ElementTree import ParseError

from focal_retinanet.data.coco_images import check_headers
from focal_retinanet.data.formats.splits import (
    SPLIT_NAMES,
    DataFolder,
    FormatError,
    split_of_name,
)
from focal_retinanet.data.formats.voc_lists import split_by_lists
from focal_retinanet.data.formats.voc_xml import fault_of, is_of_another_kind, size_in
from focal_retinanet.data.formats.with_supervision import (
    boxes_alone,
    check_label_files,
    import_supervision,
    to_split,
)
from focal_retinanet.data.image_files import IMAGE_SUFFIXES

if TYPE_CHECKING:
    import supervision

#: What :func:`find_voc` looks for.
LOOKED_FOR = (
    'Pascal VOC: *.xml, Annotations/*.xml, annotations/*.xml, or train/, valid/ and '
    'test/ with *.xml'
)


def find_voc(folder: Path) -> DataFolder | None:
    """Return the data set if a folder has XML files of Pascal VOC, else None.

    Args:
        folder: Folder that is searched.

    Raises:
        FormatError: The XML files or their images cannot be read, or a list names an
            image that is not there.
        UserError: The package supervision is not installed.
    """
    names = [name for names in SPLIT_NAMES.values() for name in names]
    together = [folder / 'Annotations', folder / 'annotations', folder]
    apart = [folder / name for name in names]
    sources = [place for place in together if _has_annotations(place)][:1]
    by_split = {}
    if not sources:
        sources = [place for place in apart if _has_annotations(place)]
        by_split = {place: split_of_name(place.name) for place in sources}
        for split in SPLIT_NAMES:
            places = [place.name for place in sources if by_split[place] == split]
            if len(places) > 1:
                raise FormatError(
                    f'{folder}: has XML files in {" and ".join(places)}, which are one '
                    'split; leave one folder'
                )
    if not sources:
        return None

    supervision = import_supervision('Pascal VOC', folder)
    read = {
        by_split.get(source, 'train'): _read(supervision, source, folder)
        for source in sources
    }
    notes = _without_xml(read.values())
    classes = _number_classes(read.values())
    parts = {split: xml.boxes for split, xml in read.items()}
    if not by_split:
        parts, more = split_by_lists(parts['train'], sources[0], folder)
        notes += more
    if 'train' not in parts:
        raise FormatError(f'{folder}: has XML files for {" and ".join(parts)} alone')
    splits = {}
    for split, found in parts.items():
        xml = read[split if by_split else 'train']
        splits[split] = to_split(
            found,
            classes,
            next(iter(found)).parent,
            xml.source,
            xml.file_of,
            'are they the images of these boxes?',
        )
        splits[split].is_size_known = found.keys() <= xml.with_size
    return DataFolder('Pascal VOC', splits, notes)


class _Xml(NamedTuple):
    """What a folder of XML files has.

    Attributes:
        source: The folder.
        classes: Names of the classes, in the order of ``class_id``.
        boxes: Boxes by image file.
        with_size: Image files whose XML file has their size.
        without: Image files that have no XML file.
    """

    source: Path
    classes: list[str]
    boxes: dict[Path, 'supervision.Detections']
    with_size: set[Path]
    without: set[Path]

    def file_of(self, image: Path) -> Path:
        return self.source / f'{image.stem}.xml'


def _has_annotations(folder: Path) -> bool:
    return not all(map(is_of_another_kind, folder.glob('*.xml')))


def _read(supervision, source: Path, folder: Path) -> _Xml:
    """Read a folder of XML files.

    Raises:
        FormatError: An XML file cannot be read, has no image or several, or has the
            size of another one.
    """
    stems = {file.stem for file in source.glob('*.xml')}
    img_dir = _image_dir(stems, source, folder)
    try:
        with boxes_alone(supervision.dataset.formats.pascal_voc, '_with_poly_mask'):
            data = supervision.DetectionDataset.from_pascal_voc(
                str(img_dir), str(source)
            )
    except (ParseError, ValueError, LookupError, AttributeError, OSError) as error:
        for file in sorted(source.glob('*.xml')):
            if fault := fault_of(file):
                raise FormatError(
                    f'{file}: {fault}; correct the file, or delete it'
                ) from error
        raise FormatError(
            f'{source}: an XML file is not as Pascal VOC has it ({error})'
        ) from error
    paths = set(map(Path, data.annotations))
    without = {path for path in paths if path.stem not in stems}
    boxes = {path: data.annotations[str(path)] for path in sorted(paths - without)}
    missing = sorted(
        stem
        for stem in stems - {path.stem for path in boxes}
        if not is_of_another_kind(source / f'{stem}.xml')
    )
    if missing:
        raise FormatError(
            f'{source}: there is no image in {img_dir} for {missing[0]}.xml '
            f'({len(missing)} of {len(stems)} XML files)'
        )
    check_label_files(boxes, lambda image: source / f'{image.stem}.xml', source)
    with_size = _check_sizes(source, boxes)
    # Tools write a class with and without blanks around it.
    classes = [name.strip() for name in data.classes]
    return _Xml(source, classes, boxes, with_size, without)


def _check_sizes(source: Path, images: Collection[Path]) -> set[Path]:
    """Return the images whose XML file has their size.

    Raises:
        FormatError: An image has another size than its XML file says.
    """
    sizes = {}
    for image in images:
        size = size_in(source / f'{image.stem}.xml')
        if size is not None:
            sizes[image] = size
    faults = check_headers(
        list(map(str, sizes)), list(sizes.values()), of_all=f'of {len(images)}'
    )
    if faults.errors:
        raise FormatError(
            '\n       '.join(f'{source}: {error}' for error in faults.errors)
        )
    return set(sizes)


def _without_xml(read: Iterable[_Xml]) -> list[str]:
    """Return a note about the images that no XML file belongs to, if there are any."""
    read = list(read)
    used = {path for xml in read for path in xml.boxes}
    unused = sorted({path for xml in read for path in xml.without} - used)
    if not unused:
        return []
    return [
        f'{len(unused)} images have no XML file, such as {unused[0].name}: they are '
        'left out.'
    ]


def _number_classes(read: Iterable[_Xml]) -> list[str]:
    """Return the classes of all boxes, after numbering them alike in all splits."""
    named = [
        (found, [xml.classes[label] for label in found.class_id.tolist()])
        for xml in read
        for found in xml.boxes.values()
        if len(found)
    ]
    classes = sorted({name for _, names in named for name in names})
    for found, names in named:
        found.class_id[:] = [classes.index(name) for name in names]
    return classes


def _image_dir(stems: set[str], source: Path, folder: Path) -> Path:
    """Return the folder that has an image for most XML files.

    Raises:
        FormatError: No folder has any.
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
