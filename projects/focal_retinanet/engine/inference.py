"""Detections on images and videos that belong to no data set."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path

import cv2
import numpy as np
from mmdet.apis import inference_detector, init_detector
from mmdet.structures import DetDataSample
from mmengine.config import Config
from torch import nn

from focal_retinanet.engine.acceleration import accelerate
from focal_retinanet.engine.errors import UserError

IMAGE_SUFFIXES = {'.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp'}
VIDEO_SUFFIXES = {'.avi', '.mkv', '.mov', '.mp4', '.webm'}


def find_inputs(inputs: Iterable[str]) -> list[Path]:
    """Files that images, folders, globs and videos stand for, in order, once each.

    Raises:
        UserError: an input does not exist, holds no image, or is of a kind
            that cannot be read.
    """
    files: dict[Path, None] = {}
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            found = [
                p for p in sorted(path.rglob('*')) if p.suffix.lower() in _SUFFIXES
            ]
        elif path.is_file():
            found = [path]
        elif has_magic(given):
            found = [Path(p) for p in sorted(glob(given, recursive=True))]
        else:
            raise UserError(f'input {given} does not exist')
        if not found:
            raise UserError(
                f'input {given} holds no image or video ({", ".join(sorted(_SUFFIXES))})'
            )
        for file in found:
            if file.suffix.lower() not in _SUFFIXES:
                raise UserError(
                    f'input {file} is neither an image nor a video that can be read '
                    f'({", ".join(sorted(_SUFFIXES))})'
                )
        files.update(dict.fromkeys(found))
    return list(files)


_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def read_frames(path: Path) -> Iterator[np.ndarray]:
    """The image, or the frames of the video, (H, W, 3) uint8 BGR.

    Raises:
        UserError: the file cannot be decoded.
    """
    if not is_video(path):
        # From memory, so that OpenCV takes any file name.
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise UserError(f'{path} cannot be decoded as an image')
        yield image
        return
    video = cv2.VideoCapture(str(path))
    try:
        ok, frame = video.read()
        if not ok:
            raise UserError(f'{path} cannot be decoded as a video')
        while ok:
            yield frame
            ok, frame = video.read()
    finally:
        video.release()


class Detector:
    """A trained model, ready for images.

    Args:
        cfg: config of the model.
        checkpoint: file with its weights.
        device: 'cpu', 'cuda:0', ...

    Raises:
        UnsafeCheckpointError, FileNotFoundError: as when loading a checkpoint.
    """

    def __init__(self, cfg: Config, checkpoint: str, device: str) -> None:
        self.model: nn.Module = init_detector(cfg, checkpoint, device=device)
        accelerate(self.model, cfg, logger='silent')

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.model.dataset_meta['classes'])

    def __call__(self, image: np.ndarray) -> DetDataSample:
        """Detect objects in a (H, W, 3) uint8 BGR image.

        Returns:
            ``pred_instances``: bboxes (N, 4) xyxy in pixels of this image,
            scores (N,), labels (N,).
        """
        return inference_detector(self.model, image)


@dataclass
class CocoDetections:
    """Detections as a COCO file of its own: images, categories, annotations.

    Boxes are xywh in absolute pixels, each with its ``score``; categories
    count from 1.
    """

    classes: tuple[str, ...]
    images: list[dict] = field(default_factory=list)
    annotations: list[dict] = field(default_factory=list)

    def add(self, file_name: str, image: np.ndarray, found: DetDataSample) -> None:
        """Add what was found in a (H, W, 3) image."""
        image_id = len(self.images) + 1
        height, width = image.shape[:2]
        self.images.append(
            dict(id=image_id, file_name=file_name, width=width, height=height)
        )
        instances = found.pred_instances.cpu().numpy()
        for (x1, y1, x2, y2), score, label in zip(
            instances.bboxes.tolist(),
            instances.scores.tolist(),
            instances.labels.tolist(),
            strict=True,
        ):
            self.annotations.append(
                dict(
                    id=len(self.annotations) + 1,
                    image_id=image_id,
                    category_id=label + 1,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    iscrowd=0,
                    score=score,
                )
            )

    def as_dict(self) -> dict:
        categories = [dict(id=i, name=n) for i, n in enumerate(self.classes, start=1)]
        return dict(
            images=self.images, categories=categories, annotations=self.annotations
        )
