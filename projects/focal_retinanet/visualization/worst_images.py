"""Pictures of the images that a detector is worst at, alone and on a sheet."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from focal_retinanet.cli.console import progress
from focal_retinanet.cli.errors import UserError
from focal_retinanet.data.image_files import read_annotated_image
from focal_retinanet.evaluation.ground_truth import GroundTruth
from focal_retinanet.evaluation.worst_images import RankedImage
from focal_retinanet.visualization.detections import draw_detections, draw_grid
from focal_retinanet.visualization.file_names import delete_numbered_pictures

#: Images on a sheet.
GRID = 16


def save_worst_images(
    images: Sequence[RankedImage],
    truth: GroundTruth,
    img_dir: Path,
    folder: Path,
    score_thr: float,
    ignores_orientation: bool = False,
) -> None:
    """Write each image beside its ground truth, and a sheet of the first ones.

    Those of an earlier call are deleted.

    Args:
        images: Images in their order.
        truth: Ground truth of the images.
        img_dir: Folder of the image files.
        folder: Folder of the pictures, which is made; the sheet is beside it.
        score_thr: Lowest score that is drawn.
        ignores_orientation: Whether images are read without their EXIF rotation.

    Raises:
        UserError: An image file is absent, cannot be read, or has another size than
            its annotations say.
    """
    folder.mkdir(parents=True, exist_ok=True)
    delete_numbered_pictures(folder)
    sheet_file = folder.with_name(f'{folder.name}.png')
    sheet_file.unlink(missing_ok=True)
    sheet = []
    for rank, image in enumerate(progress(images, folder.name)):
        annotated = truth.coco.imgs[image.detections.image_id]
        file = img_dir / annotated['file_name']
        if not file.exists():
            raise UserError(f'{file} is not there: name the images by --img-dir')
        size = (annotated['width'], annotated['height'])
        frame = read_annotated_image(file, size, ignores_orientation)[..., ::-1]
        picture = draw_detections(
            frame,
            image.detections,
            truth.classes,
            score_thr,
            f'{file.name}: {image.title}',
        )
        _write(folder / f'{rank:03d}_{file.stem}.png', picture)
        if len(sheet) < GRID:
            sheet.append((frame, image.detections, image.title))
    if sheet:
        frames, found, titles = map(list, zip(*sheet, strict=True))
        _write(sheet_file, draw_grid(frames, found, titles, score_thr))
        print(f'{folder.name}: {len(images)} images in {folder}, {sheet_file}')


def _write(file: Path, picture: np.ndarray) -> None:
    """Write an RGB picture from memory, so that any file name will do."""
    _, data = cv2.imencode('.png', picture[..., ::-1])
    file.write_bytes(data.tobytes())
