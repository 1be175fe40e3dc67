"""Pictures of training images with their anchors, written and shown."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2

from focal_retinanet.anchors.assignment import AnchorRule
from focal_retinanet.anchors.measure import assign
from focal_retinanet.cli.console import progress
from focal_retinanet.data.training_images import TrainingImages
from focal_retinanet.visualization.assignment import save_assignment_picture
from focal_retinanet.visualization.file_names import delete_numbered_pictures


def save_training_pictures(
    indices: Sequence[int],
    images: TrainingImages,
    rule: AnchorRule | None,
    classes: Sequence[str],
    folder: Path,
) -> list[Path]:
    """Write a picture of each image with its objects and their anchors.

    Those of an earlier call are deleted.

    Args:
        indices: Indices of the images.
        images: Images, with their pixels.
        rule: Anchors and their assigner; None draws the objects alone.
        classes: Names of the classes.
        folder: Folder of the pictures.

    Returns:
        The files.
    """
    delete_numbered_pictures(folder)
    files = []
    for index in progress(indices, 'pictures'):
        example = images[index]
        height, width = example.input_shape
        files.append(
            save_assignment_picture(
                folder / f'{index:06d}_{Path(example.name).stem}.png',
                example.image,
                assign(rule, example),
                example.objects.bboxes,
                [classes[label] for label in example.objects.labels.tolist()],
                f'{Path(example.name).name}, input {width}x{height}',
                [] if rule is None else rule.strides,
                None if example.crowds is None else example.crowds.bboxes,
            )
        )
    return files


def show_pictures(files: Sequence[Path], interval: float) -> None:
    """Open each picture in a window, if there is a display.

    Args:
        files: Files of the pictures.
        interval: Seconds that each picture is shown; 0 waits for a key.
    """
    has_display = os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')
    if sys.platform.startswith('linux') and not has_display:
        return
    try:
        for file in files:
            cv2.imshow('browse_dataset', cv2.imread(str(file)))
            cv2.waitKey(int(interval * 1000))
        cv2.destroyAllWindows()
    except cv2.error:  # an OpenCV without windows
        return
