"""An exported file in the place of a detector of mmdet."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor

from focal_retinanet.cli.errors import UserError
from focal_retinanet.cli.naming import few
from focal_retinanet.export.metadata import followed_settings, resize_rule
from focal_retinanet.export.runtimes import RUNTIMES, Runtime, load_runtime
from focal_retinanet.registry import MODELS


def is_exported(file: str | Path) -> bool:
    """Return whether a file's name is that of an exported model, not a checkpoint's."""
    return Path(file).suffix in RUNTIMES


@MODELS.register_module()
class ExportedModel(BaseModel):
    """Detector that an exported file is, for testing and detecting.

    ``tools/test.py CONFIG model.onnx`` puts it in the place of the config's ``model``.
    Its runtime uses the CPU.

    Args:
        file: File of ``tools/export.py``.
        threads: Number of threads; None leaves it to the runtime.
        detector: Config of the detector that was exported, for the record.
        runtime: Runtime in place of the file's.

    Raises:
        FileNotFoundError: The file does not exist.
        UserError: The file cannot be read, or its runtime is missing.
    """

    def __init__(
        self,
        file: str | Path,
        threads: int | None = None,
        detector: dict | None = None,
        *,
        runtime: Runtime | None = None,
    ) -> None:
        super().__init__()
        self.runtime = load_runtime(file, threads) if runtime is None else runtime
        self.file = Path(file)
        self.dataset_meta = dict(classes=tuple(self.runtime.metadata.classes))

    def describe_other_settings(self, cfg: Config) -> str | None:
        """Say which settings of a config the file does not follow, if there are any.

        Args:
            cfg: Config that has this file in the place of its model, or of the module
                of a tiled model, whose pipeline is not compared.
        """
        metadata = self.runtime.metadata
        is_tiled = cfg.model.get('module') is not None
        model = cfg.model.module if is_tiled else cfg.model
        test_cfg = (model.get('detector') or {}).get('test_cfg') or {}
        other = []
        for name, wanted in followed_settings(test_cfg).items() if test_cfg else ():
            own = getattr(metadata, name)
            if own is not None and own != wanted:
                other.append(f'model.test_cfg.{name} is {own}, not {wanted}')
        try:
            rule = metadata.resize if is_tiled else resize_rule(cfg)
        except UserError as error:  # a step that no rule describes
            other.append(str(error))
        else:
            if rule != metadata.resize:
                other.append(f'it was made for {metadata.resize}, not for {rule}')
        if not other:
            return None
        return (
            f'{self.file} differs from the config: {"; ".join(other)}. Export it anew'
        )

    def check_classes(self, classes: Sequence[str]) -> None:
        """Check that the file has as many classes as a config.

        Raises:
            UserError: It has more or fewer.
        """
        own = self.runtime.metadata.classes
        if len(own) != len(classes):
            raise UserError(
                f'{self.file} has {len(own)} classes ({few(own)}), and the config has '
                f'{len(classes)} ({few(classes)})'
            )

    def test_step(self, data: dict) -> list[DetDataSample]:
        """Detect objects.

        Args:
            data: ``inputs``, images (3, H, W), uint8, BGR, and ``data_samples``, as
                mmdet's data loaders give them. Images of equal size go through the
                model together.

        Returns:
            The samples with ``pred_instances``, in pixels of the original image, best
            scores first.

        Raises:
            UserError: The file is raw, has a smaller fixed shape, or takes other images.
        """
        if self.runtime.metadata.raw:
            raise UserError(
                f'{self.file} was exported with --raw: its outputs are no detections'
            )
        images = data['inputs']
        by_shape = defaultdict(list)
        for index, image in enumerate(images):
            if image.dtype != torch.uint8:
                raise UserError(
                    f'{self.file} takes images of uint8, and the test pipeline gives '
                    f'{image.dtype}; normalisation is inside the file'
                )
            by_shape[tuple(image.shape)].append(index)
        found: dict[int, InstanceData] = {}
        for indices in by_shape.values():
            batch = torch.stack([images[index] for index in indices]).numpy()
            for index, one in zip(indices, self._detect(batch), strict=True):
                found[index] = one
        for index, sample in enumerate(data['data_samples']):
            sample.pred_instances = _rescaled(found[index], sample)
        return data['data_samples']

    val_step = test_step

    def forward(self, inputs: Tensor, data_samples=None, mode: str = 'tensor'):
        raise UserError(f'{self.file} is exported: it can be tested, not trained')

    def _detect(self, batch: np.ndarray) -> list[InstanceData]:
        """Return the detections in images (B, 3, H, W), in pixels of the input."""
        found = []
        for part in self.prepare(batch):
            for boxes, scores, labels in zip(*self.runtime(part), strict=True):
                n = int((scores > 0).sum())
                instances = InstanceData(
                    bboxes=torch.from_numpy(boxes[:n].copy()),
                    scores=torch.from_numpy(scores[:n].copy()),
                    labels=torch.from_numpy(labels[:n].copy()).long(),
                )
                if part.shape[2:] != batch.shape[2:]:
                    instances = self._without_padding(instances, *batch.shape[2:])
                found.append(instances)
        return found[: len(batch)]

    def _without_padding(
        self, found: InstanceData, height: int, width: int
    ) -> InstanceData:
        """Return what is left of detections in an image that a fixed shape filled up.

        Inside the file, boxes end at the border of the fixed shape.
        """
        metadata = self.runtime.metadata
        if not metadata.clip_border:
            return found
        found.bboxes[:, 0::2].clamp_(max=width)
        found.bboxes[:, 1::2].clamp_(max=height)
        if metadata.min_bbox_size is None or metadata.min_bbox_size < 0:
            return found
        sides = found.bboxes[:, 2:] - found.bboxes[:, :2]
        return found[(sides > metadata.min_bbox_size).all(dim=1)]

    def prepare(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return images in batches of the file's shape.

        Args:
            batch: Images (B, 3, H, W), uint8, BGR.

        Raises:
            UserError: They are larger than the file's shape.
        """
        return self._batches(self._padded(batch))

    def _padded(self, batch: np.ndarray) -> np.ndarray:
        """Return the images in the file's height and width."""
        _, height, width = self.runtime.metadata.shape
        height, width = height or batch.shape[2], width or batch.shape[3]
        if batch.shape[2:] == (height, width):
            return batch
        if batch.shape[2] > height or batch.shape[3] > width:
            raise UserError(
                f'{self.file} takes images of {height}x{width} pixels (height x width) '
                f'at most, and the test pipeline gives {batch.shape[2]}x'
                f'{batch.shape[3]}; export with another --shape'
            )
        padded = np.empty((*batch.shape[:2], height, width), np.uint8)
        padded[:] = np.array(self.runtime.metadata.pad, np.uint8)[:, None, None]
        padded[:, :, : batch.shape[2], : batch.shape[3]] = batch
        return padded

    def _batches(self, images: np.ndarray) -> list[np.ndarray]:
        """Split images into batches of the file's size, the last one filled up."""
        size = self.runtime.metadata.shape[0]
        if size is None:
            return [images]
        missing = -len(images) % size
        images = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
        return np.split(images, len(images) // size)


def _rescaled(found: InstanceData, sample: DetDataSample) -> InstanceData:
    """Return detections in pixels of the original image."""
    factor = sample.metainfo.get('scale_factor')
    if factor is not None:
        found.bboxes = found.bboxes / found.bboxes.new_tensor(factor).repeat(2)
    return found
