"""The lists of images with which Pascal VOC names its splits."""

from pathlib import Path

from focal_retinanet.data.coco_images import backslash_hint
from focal_retinanet.data.formats.splits import SPLIT_NAMES, FormatError, read_list
from focal_retinanet.data.image_files import IMAGE_SUFFIXES


def split_by_lists(
    boxes: dict[Path, object], source: Path, folder: Path
) -> tuple[dict[str, dict], list[str]]:
    """Return the boxes of each split that a list names, and notes.

    Args:
        boxes: Boxes by image file.
        source: Folder of the XML files.
        folder: Folder of the data set.

    Raises:
        FormatError: A list cannot be read, is empty, or names an image that is not
            there, or there is none for training.
    """
    for place in (folder / 'ImageSets' / 'Main', source, folder):
        lists, spare = _find_lists(place)
        if lists:
            break
    else:
        return {'train': boxes}, []
    by_stem = {path.stem: path for path in boxes}
    parts: dict[str, dict] = {}
    notes = []
    for split, file in lists.items():
        try:
            stems = _stems_in(file, by_stem)
        except FormatError as error:
            if split != 'test':  # whose annotations VOC keeps back
                raise
            notes.append(f'There is no test split ({error}).')
            continue
        parts[split] = {by_stem[stem]: boxes[by_stem[stem]] for stem in stems}
        if repeated := len(stems) - len(parts[split]):
            notes.append(
                f'{repeated} images are listed more than once in {file.name}: each '
                'counts once.'
            )
    names = ', '.join(lists[split].name for split in parts)
    note = f'The splits are those of {names} in {place}.'
    if spare:
        note += f' {", ".join(file.name for file in spare)} is not used beside these.'
    left_out = boxes.keys() - {path for part in parts.values() for path in part}
    if left_out:
        note += f' {len(left_out)} images are in none.'
    return parts, [note, *notes]


def _find_lists(place: Path) -> tuple[dict[str, Path], list[Path]]:
    """Return the list of each split in a folder, and those that are not needed.

    Raises:
        FormatError: There are lists, and none says what to train on.
    """
    lists, spare = {}, []
    for split, names in SPLIT_NAMES.items():
        files = [place / f'{name}.txt' for name in names]
        files = [file for file in files if file.is_file()]
        if files:
            lists[split], *more = files
            spare += more
    both = place / 'trainval.txt'
    if 'train' in lists:
        return lists, spare + [both] * both.is_file()
    if both.is_file() and 'val' not in lists:
        return {'train': both, **lists}, spare
    if lists:
        raise FormatError(
            f'{place}: has {" and ".join(file.name for file in lists.values())}, and no '
            'train.txt that lists the images to train on; write it'
        )
    return {}, []


def _stems_in(file: Path, known: dict[str, Path]) -> list[str]:
    """Return the stems of the images that a list names.

    Raises:
        FormatError: There is none, or one is not known.
    """
    lines = read_list(file)
    if not lines:
        raise FormatError(
            f'{file}: lists no image; write the names of its images, one a line, or '
            'delete the file'
        )
    stems = [_stem_in(line, known) for line in lines]
    missing = [line for line, stem in zip(lines, stems, strict=True) if stem is None]
    if missing:
        raise FormatError(
            f'{file}: lists {missing[0]}, and there is no such XML file '
            f'({len(missing)} of {len(lines)}){backslash_hint(missing[0])}'
        )
    return stems


def _stem_in(line: str, known: dict[str, Path]) -> str | None:
    """Return the stem of an image in a line, whose name may have blanks and dots.

    VOC's lists of one class have 1 or -1 after the name.
    """
    for name in (line, line.rsplit(maxsplit=1)[0], line.split()[0]):
        path = Path(name)
        is_file = path.suffix.lower() in {*IMAGE_SUFFIXES, '.xml'}
        for stem in (name, path.stem if is_file else path.name):
            if stem in known:
                return stem
    return None
