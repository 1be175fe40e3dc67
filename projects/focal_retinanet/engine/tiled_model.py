"""A model that is tested on tiles of the images of a data set."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmdet.models.utils.misc import samplelist_boxtype2tensor
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmengine.model import BaseTTAModel
from torch import nn

from focal_retinanet.config.data_preprocessor import give_model_its_preprocessor
from focal_retinanet.config.dataset_configs import inner_datasets
from focal_retinanet.engine.tiles import (
    Tiling,
    array_pipeline,
    merge_tiles,
    nms_of,
    predict_tiles,
)
from focal_retinanet.registry import MODELS


@MODELS.register_module()
class TiledModel(BaseTTAModel):
    """Model whose ``test_step`` cuts large images into tiles.

    It gets whole images as they were read, and does the rest of the test pipeline
    itself, since a pipeline would hold all tiles of an image at once. Images no larger
    than a tile take the usual way.

    Args:
        module: Detector, or its config.
        pipeline: Transforms of an image or a tile, from ``LoadImageFromNDArray`` on.
        nms: Suppression over all tiles.
        batch_size: Number of tiles that are detected at a time.
        tiling: Arguments of :class:`focal_retinanet.engine.tiles.Tiling`.
    """

    def __init__(
        self,
        module: dict | nn.Module,
        pipeline: Sequence[dict],
        nms: Mapping[str, Any],
        batch_size: int,
        tiling: Mapping[str, Any],
    ) -> None:
        super().__init__(module)
        self._pipeline = Compose(pipeline)
        self._nms = nms
        self._batch_size = batch_size
        self._tiling = Tiling(**tiling)

    def test_step(self, data: dict) -> list[DetDataSample]:
        """Detect objects in whole images.

        Args:
            data: ``inputs``, images (3, H, W) on the CPU, and their ``data_samples``.

        Returns:
            The same samples with ``pred_instances``.
        """
        images = [image.permute(1, 2, 0).numpy() for image in data['inputs']]
        samples = data['data_samples']
        cuts = [self._tiling.cuts(image) for image in images]
        small = [index for index, cut in enumerate(cuts) if not cut]
        if small:
            together = self._predict([images[index] for index in small])
            for index, found in zip(small, together, strict=True):
                samples[index].pred_instances = found.pred_instances
        large = [index for index, cut in enumerate(cuts) if cut]
        of_tiles = [
            predict_tiles(self._predict, images[index], self._tiling, self._batch_size)
            for index in large
        ]
        for index, found in zip(large, self.merge_preds(of_tiles), strict=True):
            samples[index].pred_instances = found.pred_instances
        samplelist_boxtype2tensor(samples)  # as a model's data preprocessor does
        return samples

    def merge_preds(
        self, data_samples_list: Sequence[Sequence[DetDataSample]]
    ) -> list[DetDataSample]:
        """Merge the detections of the tiles of each image."""
        return [
            DetDataSample(pred_instances=merge_tiles(samples, self._nms))
            for samples in data_samples_list
        ]

    def _predict(self, images: Sequence[np.ndarray]) -> Sequence[DetDataSample]:
        data = [
            self._pipeline(dict(img=np.ascontiguousarray(image), img_id=0))
            for image in images
        ]
        return self.module.test_step(
            {key: [one[key] for one in data] for key in ('inputs', 'data_samples')}
        )


def use_tiles(cfg: Config, tiling: Tiling) -> None:
    """Test on tiles of the images.

    Args:
        cfg: Config of a run, whose model and test pipelines are changed. The batch
            size of its test is the number of tiles at a time.
        tiling: How images are cut.
    """
    give_model_its_preprocessor(cfg)
    cfg.model = ConfigDict(
        type='focal_retinanet.TiledModel',
        pipeline=array_pipeline(cfg),
        nms=nms_of(cfg.model),
        batch_size=cfg.test_dataloader.get('batch_size', 1),
        tiling=vars(tiling),
        module=cfg.model,
    )
    for dataset in inner_datasets(cfg.test_dataloader.dataset):
        load, *steps, pack = dataset.pipeline
        annotations = [s for s in steps if _name(s).endswith('LoadAnnotations')]
        dataset.pipeline = [load, *annotations, pack]


def _name(step: Mapping[str, Any]) -> str:
    """Return the name of a transform, which a config may name by its class."""
    return getattr(step['type'], '__name__', step['type'])
