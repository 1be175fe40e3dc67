"""The images of a config as its network gets them, the same each time."""

import contextlib
import io
import logging
import random
from dataclasses import dataclass

import numpy as np
import torch
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils.data import Dataset

from focal_retinanet.cli.errors import UserError
from focal_retinanet.data.check_data import checked_loading, coco_sources
from focal_retinanet.data.image_errors import name_image_errors


@dataclass
class Example:
    """One image as the network gets it, alone in its batch.

    Attributes:
        name: path of the file, or the number in the data set.
        sample: of mmdet, its boxes (M, 4) xyxy in pixels of the input.
        input_shape: (height, width) with padding.
        image: (H, W, 3) uint8 RGB, with padding; None where not asked for.
    """

    name: str
    sample: DetDataSample
    input_shape: tuple[int, int]
    image: np.ndarray | None = None

    @property
    def objects(self) -> InstanceData:
        """``bboxes`` (M, 4) and ``labels`` (M,)."""
        return self.sample.gt_instances

    @property
    def crowds(self) -> InstanceData | None:
        """``bboxes`` (C, 4) of regions that training ignores."""
        return self.sample.get('ignored_instances')


class TrainingImages(Dataset):
    """Examples of a data set; augmentation depends on seed and index alone.

    Args:
        dataset: of mmdet, with a pipeline that ends in PackDetInputs.
        preprocessor: of the detector.
        seed: of the augmentation.
        with_image: give the pixels too.
    """

    def __init__(
        self,
        dataset: Dataset,
        preprocessor: nn.Module,
        seed: int = 0,
        with_image: bool = True,
    ) -> None:
        self.dataset = dataset
        self.preprocessor = preprocessor
        self.seed = seed
        self.with_image = with_image

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Example:
        """
        Raises:
            UserError: the pipeline gives no boxes.
        """
        seed = (self.seed * 1_000_003 + index) % 2**32
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        item = self.dataset[index]
        batch = self.preprocessor(
            dict(inputs=[item['inputs']], data_samples=[item['data_samples']]),
            training=True,
        )
        sample, inputs = batch['data_samples'][0], batch['inputs'][0]
        if 'bboxes' not in sample.get('gt_instances', {}):
            raise UserError(
                'the pipeline gives no ground-truth boxes: it needs '
                "dict(type='LoadAnnotations', with_bbox=True) before PackDetInputs"
            )
        return Example(
            name=str(sample.get('img_path', f'image {index}')),
            sample=sample,
            input_shape=tuple(inputs.shape[-2:]),
            image=_as_image(inputs, self.preprocessor) if self.with_image else None,
        )


def build_dataset(dataloader: ConfigDict, model: nn.Module) -> Dataset:
    """The data set of a data loader's config, its annotation file checked.

    Boxes are loaded before the image is resized; pipelines of validation load
    them last, in pixels of the original image, for metrics. Changes the config.

    Raises:
        DataError: the annotation file does not fit.
    """
    _load_boxes_first(dataloader.dataset)
    # Without handlers, so its warnings are printed as they are.
    logger = logging.getLogger('training_images')
    with (
        checked_loading(coco_sources(dataloader.dataset), model, logger, set()),
        contextlib.redirect_stdout(io.StringIO()),  # "creating index..."
    ):
        dataset = DATASETS.build(dataloader.dataset)
    name_image_errors(dataset)
    return dataset


def _load_boxes_first(dataset: ConfigDict) -> None:
    for part in dataset.get('datasets', []):  # ConcatDataset
        _load_boxes_first(part)
    if 'dataset' in dataset:  # RepeatDataset and the like
        _load_boxes_first(dataset.dataset)
    pipeline = dataset.get('pipeline') or []
    names = [str(step.get('type')) for step in pipeline]
    if 'LoadAnnotations' in names and 'LoadImageFromFile' in names:
        step = pipeline.pop(names.index('LoadAnnotations'))
        pipeline.insert(names.index('LoadImageFromFile') + 1, step)


def _as_image(inputs: Tensor, preprocessor: nn.Module) -> np.ndarray:
    """A normalised input (3, H, W) back as (H, W, 3) uint8 RGB."""
    if getattr(preprocessor, '_enable_normalize', False):
        inputs = inputs * preprocessor.std + preprocessor.mean
    image = inputs.clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    # Pipelines read BGR; a preprocessor that swaps channels has made it RGB.
    swapped = getattr(preprocessor, '_channel_conversion', False)
    return image if swapped else np.ascontiguousarray(image[..., ::-1])
