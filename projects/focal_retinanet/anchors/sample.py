"""Whether anchors reach the objects of a few training images, in a second or two."""

import copy
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from focal_retinanet.anchors.advice import FITS, best_iou_on_grid
from focal_retinanet.anchors.assignment import AnchorRule, NoAnchorsError
from focal_retinanet.data.random_state import kept_random_state
from focal_retinanet.data.training_images import TrainingImages, evenly_spread


@dataclass(frozen=True)
class Reach:
    """Objects of a sample that anchors reach, and those that none reaches.

    Attributes:
        images: Number of images.
        objects: Number of objects.
        missed: Number of objects without an anchor of IoU >= ``pos_iou_thr``.
        pos_iou_thr: Lowest IoU of a positive.
    """

    images: int
    objects: int
    missed: int
    pos_iou_thr: float

    @property
    def share_missed(self) -> float:
        """Share of objects that are missed; 0 without objects."""
        return self.missed / max(1, self.objects)

    def describe(self, config: str) -> str | None:
        """Return a line that names the tool to ask; None if the anchors fit.

        Args:
            config: Config file for the tool.
        """
        if self.share_missed <= 1 - FITS:
            return None
        return (
            f'{100 * self.share_missed:.0f} % of the objects in a sample of '
            f'{self.images} training images get no anchor of IoU >= '
            f'{self.pos_iou_thr:g}: python tools/browse_dataset.py {config} says what '
            'would cover them'
        )


def measure_reach(
    model: nn.Module, dataset: Dataset, num: int = 64, seconds: float = 2.0
) -> Reach | None:
    """Compare the anchors of a detector with objects as it is trained on them.

    Random numbers and the data set stay as they were, transforms that count or
    remember included.

    Args:
        model: Detector.
        dataset: Data set of mmdet with the pipeline of training.
        num: Number of images, spread over the data set.
        seconds: Time after which no further image is loaded.

    Returns:
        None if the detector has no anchors that are assigned by IoU, or the pipeline
        gives no boxes.
    """
    try:
        rule = AnchorRule.of_detector(model)
    except NoAnchorsError:
        return None
    end = time.monotonic() + seconds
    boxes, shapes = [], []
    with kept_random_state():
        images = TrainingImages(
            _with_own_pipeline(dataset), model.data_preprocessor, with_image=False
        )
        chosen = evenly_spread(len(images), num)
        # If time runs out, what has been seen is still spread.
        for index in np.random.default_rng(0).permutation(chosen).tolist():
            if boxes and time.monotonic() > end:
                break
            if not boxes and not _has_boxes(images.dataset[index]):
                return None
            example = images[index]
            boxes.append(example.objects.bboxes.cpu())
            shapes.append(torch.tensor([example.input_shape]).expand(len(boxes[-1]), 2))
    if not boxes:
        return None
    best = best_iou_on_grid(
        torch.cat(boxes),
        torch.cat(shapes),
        rule.generator.base_anchors,
        rule.generator.strides,
    )
    threshold = rule.assigner.pos_iou_thr
    missed = int((best < threshold).sum())
    return Reach(len(boxes), len(best), missed, threshold)


def _has_boxes(item: object) -> bool:
    sample = item.get('data_samples') if isinstance(item, dict) else None
    return 'bboxes' in getattr(sample, 'gt_instances', {})


def _with_own_pipeline(dataset: Dataset) -> Dataset:
    """A data set that shares all but its transforms, wrapped ones likewise."""
    dataset = copy.copy(dataset)
    if hasattr(dataset, 'pipeline'):
        dataset.pipeline = copy.deepcopy(dataset.pipeline)
    if isinstance(getattr(dataset, 'dataset', None), Dataset):
        dataset.dataset = _with_own_pipeline(dataset.dataset)
    if isinstance(getattr(dataset, 'datasets', None), list | tuple):
        dataset.datasets = [_with_own_pipeline(part) for part in dataset.datasets]
    return dataset
