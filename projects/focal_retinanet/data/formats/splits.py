"""Training, validation and test images of a data set, whatever format they came in."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from focal_retinanet.cli.errors import UserError

#: Names that data sets give their splits.
SPLIT_NAMES = {
    'train': ('train', 'training'),
    'val': ('val', 'valid', 'validation', 'dev'),
    'test': ('test', 'testing'),
}
#: Share of the images that are held out where a data set has no validation images.
VAL_SHARE = 0.2


class FormatError(UserError, ValueError):
    """A folder is no data set of a known format, or of more than one."""


@dataclass
class Split:
    """Images and boxes of one split.

    Attributes:
        coco: Content of a COCO file; boxes are xywh in absolute pixels.
        img_dir: Folder that the file names of the images are relative to.
        source: File or folder that the annotations are from.
        ann_file: COCO file of the user's with this content; None if there is none, so
            that one has to be written.
        is_size_known: Whether the sizes of the images are those of whoever drew the
            boxes. If not, they were read from the images.
        doubts: Warnings about the annotations, from their conversion.
    """

    coco: dict
    img_dir: Path
    source: Path
    ann_file: Path | None = None
    is_size_known: bool = True
    doubts: list[str] = field(default_factory=list)


@dataclass
class DataFolder:
    """Contents of a folder of data.

    Attributes:
        format: Name of the format.
        splits: Split by name, ``train`` and ``val`` and perhaps ``test``.
        notes: Sentences about what was assumed.
    """

    format: str
    splits: dict[str, Split]
    notes: list[str] = field(default_factory=list)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the training split's categories."""
        return tuple(c['name'] for c in self.splits['train'].coco['categories'])


def split_of_name(name: str) -> str | None:
    """Return the split that a name stands for, such as ``instances_val2017``."""
    words = re.findall('[a-z]+', name.lower())
    for split, names in SPLIT_NAMES.items():
        if set(names) & set(words):
            return split
    return None


def read_list(file: Path) -> list[str]:
    """Return the lines of a list of images that are not blank, without their ends.

    Raises:
        FormatError: The file cannot be read as UTF-8.
    """
    try:
        lines = file.read_text(encoding='utf-8-sig').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(
            f'{file}: is no text in UTF-8 that can be read ({error}); save it in this '
            'encoding'
        ) from error
    return [line.strip() for line in lines if line.strip()]


def complete(found: DataFolder, seed: int) -> DataFolder:
    """Hold out validation images from the training images if there are none.

    Args:
        found: Data set with a split ``train``; it is changed in place.
        seed: Seed of the choice.

    Raises:
        FormatError: There are fewer than two images to choose from.
    """
    if 'val' in found.splits:
        return found
    whole = found.splits['train']
    images = whole.coco['images']
    if len(images) < 2:
        raise FormatError(
            f'{whole.source}: has {len(images)} images, and needs at least 2: one to '
            'train on and one to validate on'
        )
    count = max(1, round(VAL_SHARE * len(images)))
    held_out = set(random.Random(seed).sample(range(len(images)), count))
    for name, is_val in (('train', False), ('val', True)):
        chosen = [im for i, im in enumerate(images) if (i in held_out) == is_val]
        coco = select_images(whole.coco, chosen)
        found.splits[name] = replace(whole, coco=coco, ann_file=None)
    found.notes.append(
        f'There is no validation split: {count} of {len(images)} images were drawn for '
        f'it at random, seed {seed}. Frames of one video on both sides would flatter AP.'
    )
    return found


def select_images(coco: dict, images: Sequence[dict]) -> dict:
    """Return the content of a COCO file for some of its images."""
    ids = {image['id'] for image in images}
    return dict(
        coco,
        images=list(images),
        annotations=[a for a in coco['annotations'] if a['image_id'] in ids],
    )
