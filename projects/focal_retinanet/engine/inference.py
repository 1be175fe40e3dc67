"""A trained model on images that belong to no data set, and what it finds."""

from dataclasses import dataclass, field

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
from focal_retinanet.data.dataset_meta import (
    config_meta,
    describe_other_classes,
    meta_of,
)
from focal_retinanet.engine.checkpoints.fit import check_fits


class Detector:
    """A trained model, ready for images.

    Its classes are the config's, or the checkpoint's if the config names none.

    Args:
        cfg: config of the model.
        checkpoint: file with its weights.
        device: device of the model, such as 'cpu' or 'cuda:0'.

    Attributes:
        warning: one line if the checkpoint was trained on other classes, or on the
            same classes in another order; else None.

    Raises:
        UnsafeCheckpointError: the checkpoint holds code.
        FileNotFoundError: the checkpoint does not exist.
        UserError: the checkpoint does not fit this model's head.
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
            Sample whose ``pred_instances`` have bboxes (N, 4) xyxy in pixels of this
            image, scores (N,), and labels (N,).
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
        """Add the detections of a (H, W, 3) image."""
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
