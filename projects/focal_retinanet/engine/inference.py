"""Detections on images and videos that belong to no data set."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path

import cv2
import numpy as np
from mmdet.apis import inference_detector
from mmdet.evaluation import get_classes
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from torch import nn

from focal_retinanet.acceleration.accelerate import accelerate
from focal_retinanet.cli.errors import UserError
from focal_retinanet.data.dataset_meta import (
    config_meta,
    describe_other_classes,
    meta_of,
)
from focal_retinanet.engine.checkpoints.fit import check_fits

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
        yield _read_image(path)
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


def read_annotated_image(path: Path, size: tuple[int, int]) -> np.ndarray:
    """The image as its boxes have it, (H, W, 3) uint8 BGR.

    Args:
        path: image file.
        size: (width, height) of the annotation file, which tells whether its boxes
            are of the photo as it is seen or as it is stored, without the rotation
            of EXIF.

    Raises:
        UserError: the file cannot be decoded, or has another size.
    """
    as_stored = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    found = []
    for flags in (cv2.IMREAD_COLOR, as_stored):
        image = _read_image(path, flags)
        found.append(image.shape[1::-1])
        if found[-1] == size:
            return image
    (width, height), _ = found
    raise UserError(
        f'{path} is {width}x{height} where the annotation file says '
        f'{size[0]:g}x{size[1]:g}: is it the image of these boxes?'
    )


def _read_image(path: Path, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    try:
        data = np.fromfile(path, np.uint8)  # so that OpenCV takes any file name
        if not len(data):
            raise UserError(f'{path} is empty')
        image = cv2.imdecode(data, flags)
    except (OSError, cv2.error) as error:  # no permission; more pixels than allowed
        raise UserError(f'{path} cannot be read ({error})') from error
    if image is None:
        raise UserError(f'{path} cannot be decoded as an image')
    return image


class Detector:
    """A trained model, ready for images.

    Its classes are the config's, or the checkpoint's where the config names none.

    Args:
        cfg: config of the model.
        checkpoint: file with its weights.
        device: device of the model, such as 'cpu' or 'cuda:0'.

    Attributes:
        warning: one line if the checkpoint was trained on other classes, or on the
            same in another order; else None.

    Raises:
        UnsafeCheckpointError, FileNotFoundError: as when loading a checkpoint.
        UserError: the checkpoint is not of this model's head.
    """

    def __init__(self, cfg: Config, checkpoint: str, device: str) -> None:
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        if 'backbone' in cfg.model:
            cfg.model.backbone.init_cfg = None  # its weights are in the checkpoint
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        loaded = load_checkpoint(model, checkpoint, map_location='cpu')
        check_fits(model, loaded, checkpoint)
        known = meta_of(loaded)
        meta = config_meta(cfg) or known or {'classes': get_classes('coco')}
        self.warning = describe_other_classes(checkpoint, known, meta['classes'])
        model.dataset_meta = meta
        model.cfg = cfg  # read by inference_detector
        self.model: nn.Module = model.to(device).eval()
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
