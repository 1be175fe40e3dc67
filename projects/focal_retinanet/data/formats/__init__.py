"""What format a folder of images and annotations has, and its content as COCO's.

Nothing is written. COCO files are read by this package, YOLO and Pascal VOC by the
package supervision, see docs/your-data.md.
"""

from pathlib import Path

from focal_retinanet.data.formats import coco, voc, yolo
from focal_retinanet.data.formats.check import check_found, check_whole
from focal_retinanet.data.formats.splits import (
    DataFolder,
    FormatError,
    Split,
    complete,
)

__all__ = ['DataFolder', 'FormatError', 'Split', 'check_found', 'find_data']


def find_data(folder: str | Path, seed: int = 0) -> DataFolder:
    """Find out the format of a folder, and read its annotations.

    Args:
        folder: Folder that an annotation tool or a data hub has exported.
        seed: Seed of the choice of validation images, if the data set names none.

    Returns:
        A data set that has at least the splits ``train`` and ``val``.

    Raises:
        FormatError: The folder has no known format, or more than one, its files
            cannot be read, or there is an error in the one that has all images.
        UserError: A package that reads its format is not installed.
    """
    folder = Path(folder).absolute()
    if folder.is_file():
        raise FormatError(f'{folder} is a file; unpack it, or name the folder it is in')
    if not folder.is_dir():
        raise FormatError(f'there is no folder {folder}')
    formats = (coco, yolo, voc)
    found = [
        data
        for data in (
            coco.find_coco(folder),
            yolo.find_yolo(folder),
            voc.find_voc(folder),
        )
        if data is not None
    ]
    if not found:
        problems = coco.coco_problems(folder)[:3] + yolo.yolo_problems(folder)[:3]
        raise FormatError(
            f'{folder}: has no annotations in a known format. Looked for:\n  '
            + '\n  '.join(known.LOOKED_FOR for known in formats)
            + ''.join(f'\nand {line}' for line in problems)
        )
    if len(found) > 1:
        files = [f'{data.format} ({data.splits["train"].source})' for data in found]
        raise FormatError(
            f'{folder}: has annotations in more than one format: {", ".join(files)}; '
            'give a folder that has one of them'
        )
    if 'val' not in found[0].splits:
        check_whole(found[0])
    return complete(found[0], seed)
