"""Annotated images as the network gets them, the same each time."""

import copy
import logging
import random
from dataclasses import dataclass

import numpy as np
import torch
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils.data import Dataset

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.dataset_configs import inner_datasets
from focal_retinanet.config.metric_configs import type_name
from focal_retinanet.data.built_datasets import unite_metainfo
from focal_retinanet.data.check_data import checked_loading, coco_sources
from focal_retinanet.data.image_errors import name_image_errors


@dataclass
class Example:
    """One image as the network gets it, alone in its batch.

    Attributes:
        name: Path of the file, or number in the data set.
        sample: Sample of mmdet; its boxes are (M, 4) xyxy in pixels of the input.
        input_shape: (height, width) with padding.
        image: (H, W, 3) uint8 RGB with padding; None if it was not asked for.
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
        dataset: Data set of mmdet, whose pipeline ends in PackDetInputs.
        preprocessor: Preprocessor of the detector.
        seed: Seed of the augmentation.
        with_image: Whether examples have their pixels.
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
            UserError: The pipeline gives no boxes.
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
        check_has_boxes(sample)
        image = None
        if self.with_image:
            image = picture_of_input(inputs, self.preprocessor).numpy()
        return Example(
            name=str(sample.get('img_path', f'image {index}')),
            sample=sample,
            input_shape=tuple(inputs.shape[-2:]),
            image=image,
        )


def annotated_dataset(cfg: Config, split: str, model: nn.Module) -> Dataset:
    """Build the data set of a data loader, so that boxes are in pixels of the input.

    Boxes are loaded before the image is resized. Pipelines of validation and testing
    load them last, in pixels of the original image, for metrics.

    Args:
        cfg: Config with ``{split}_dataloader``.
        split: 'train', 'val' or 'test'.
        model: Detector whose head has to fit the number of classes.

    Raises:
        DataError: The annotation file does not fit.
    """
    dataset = copy.deepcopy(cfg[f'{split}_dataloader'].dataset)
    for part in inner_datasets(dataset):
        steps = part.get('pipeline') or []
        names = [type_name(step) for step in steps]
        if 'LoadAnnotations' in names:
            # After the first step, which loads the image.
            steps.insert(1, steps.pop(names.index('LoadAnnotations')))
    # A logger without handlers prints warnings as they are.
    logger = logging.getLogger('training_images')
    with (
        DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmdet'),
        checked_loading(coco_sources(dataset), model, logger, set()),
    ):
        built = DATASETS.build(dataset)
    unite_metainfo(built)
    name_image_errors(built)
    return built


def check_has_boxes(sample: DetDataSample) -> None:
    """Check that a pipeline has loaded boxes.

    Raises:
        UserError: The sample has no ground-truth boxes.
    """
    if 'bboxes' not in sample.get('gt_instances', {}):
        raise UserError(
            'the pipeline gives no ground-truth boxes: it needs '
            "dict(type='LoadAnnotations', with_bbox=True) before PackDetInputs"
        )


def picture_of_input(inputs: Tensor, preprocessor: nn.Module) -> Tensor:
    """Turn an input of the network back into a picture.

    Args:
        inputs: Image as the preprocessor gives it, (3, H, W).
        preprocessor: Preprocessor of the detector.

    Returns:
        (H, W, 3) uint8 RGB on the CPU.
    """
    image = inputs.float()
    if getattr(preprocessor, '_enable_normalize', False):
        image = image * preprocessor.std + preprocessor.mean
    if not getattr(preprocessor, '_channel_conversion', False):
        image = image.flip(0)  # left in OpenCV's order, BGR
    return image.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu()


def evenly_spread(count: int, num: int | None) -> list[int]:
    """Return at most ``num`` indices, all where it is None, spread over ``count``."""
    num = count if num is None else min(num, count)
    return np.linspace(0, count - 1, num).round().astype(int).tolist()
