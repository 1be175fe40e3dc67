"""Causes of finding nothing: signs in weights, scores, data and schedule."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import nn
from torch.utils.data import Dataset

from focal_retinanet.config.schedule import schedulers_in
from focal_retinanet.data.training_images import evenly_spread
from focal_retinanet.ops.matching import pairwise_iou

# Iterations of the paper's warm-up, during which detectors find hardly anything.
_FEW_ITERATIONS = 500


@dataclass(frozen=True)
class Found:
    """Detections of some images at any score, summed up.

    Attributes:
        images: Number of images.
        best_score: Highest score; None without detections.
        threshold: Lowest score that the config keeps; None if it has none.
        objects: Number of objects.
        overlapped: Number of objects whose best box has IoU >= 0.5, among boxes of any
            class that the config keeps.
        of_its_class: Number of these objects whose best box has their class.
    """

    images: int
    best_score: float | None
    threshold: float | None
    objects: int
    overlapped: int
    of_its_class: int


def weights_cause(model: nn.Module, cfg: Config) -> str | None:
    """Say which weights are not finite."""
    weights = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
    broken = [name for name, value in weights.items() if not value.isfinite().all()]
    if not broken:
        return None
    lr = _optimizer(cfg).get('lr')
    return (
        f'{len(broken)} of {len(weights)} weights are NaN or infinite, such as '
        f'{broken[0]}: training has diverged. Lower optim_wrapper.optimizer.lr (now '
        f'{lr}), or set optim_wrapper.clip_grad.max_norm=10'
    )


def learning_rate_cause(cfg: Config, world_size: int) -> str | None:
    """Say if the learning rate is for another number of images than this run's."""
    scaling = cfg.get('auto_scale_lr') or {}
    base = scaling.get('base_batch_size')
    loader = cfg.get('train_dataloader') or {}
    own = loader.get('batch_size', 1) * world_size
    own *= (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    lr = _optimizer(cfg).get('lr')
    if not base or scaling.get('enable') or lr is None or base / 2 < own < base * 2:
        return None
    return (
        f'the learning rate {lr:g} is for {base} images an iteration, and this run has '
        f'{own}: --auto-scale-lr makes it {lr * own / base:g}'
    )


def iterations_cause(cfg: Config, done: int) -> str | None:
    """Say if a training has only begun."""
    for scheduler in schedulers_in(cfg.get('param_scheduler')):
        is_in_iterations = scheduler.get('by_epoch', True) is False
        end = scheduler.get('end', 0)
        if scheduler.get('type') == 'LinearLR' and is_in_iterations and done < end:
            return (
                f'the warm-up of the learning rate lasts {end} iterations, and '
                f'{done} are done'
            )
    if done >= _FEW_ITERATIONS:
        return None
    return f'{done} iterations are few: train for longer, see --epochs and --iters'


def classes_cause(trained: Sequence[str], tested: Sequence[str]) -> str | None:
    """Say if the classes of training and validation differ."""
    if not trained or not tested or tuple(trained) == tuple(tested):
        return None
    order = 'in another order' if sorted(trained) == sorted(tested) else 'others'
    return (
        f'the classes of the training {tuple(trained)} and of the validation '
        f'{tuple(tested)} are {order}: give both data sets the same metainfo'
    )


def scores_cause(found: Found) -> str | None:
    """Say if no score reaches the threshold."""
    if found.best_score is None:
        return f'there is no box at any score in {found.images} images'
    if found.threshold is None or found.best_score >= found.threshold:
        return None
    return (
        f'the highest score in {found.images} images is {found.best_score:.2g}, and '
        f'model.test_cfg.score_thr is {found.threshold:g}'
    )


def labels_cause(found: Found) -> str | None:
    """Say if boxes fit but their classes do not."""
    enough = found.overlapped >= 0.2 * found.objects and found.overlapped >= 5
    if not enough or found.of_its_class > 0.2 * found.overlapped:
        return None
    return (
        f'boxes fit {found.overlapped} of {found.objects} objects, and only '
        f'{found.of_its_class} of these have the right class: are the classes in the '
        'order in which the model learned them?'
    )


def look_at(model: nn.Module, dataset: Dataset, num: int = 8) -> Found | None:
    """Detect at any score in a few images that are spread over a data set.

    Args:
        model: Detector in evaluation mode, wrapped or not.
        dataset: Data set of a validation or test.
        num: Number of images.

    Returns:
        Detections, summed up; None unless the pipeline gives single images with boxes.
    """
    scores, objects, overlapped, right = [], 0, 0, 0
    chosen = evenly_spread(len(dataset), num)
    with _any_score(model) as threshold, torch.no_grad():
        for index in chosen:
            item = dataset[index]
            if not isinstance(item, Mapping) or not isinstance(
                item.get('data_samples'), DetDataSample
            ):
                return None
            (sample,) = model.test_step(pseudo_collate([item]))
            scores += sample.pred_instances.scores.tolist()
            counts = _overlaps(sample, threshold or 0)
            objects += counts[0]
            overlapped += counts[1]
            right += counts[2]
    best = max(scores, default=None)
    return Found(len(chosen), best, threshold, objects, overlapped, right)


def _overlaps(sample: DetDataSample, threshold: float) -> tuple[int, int, int]:
    """Count the objects, those that a box fits, and those whose class fits too."""
    truth, found = sample.get('gt_instances', {}), sample.pred_instances
    found = found[found.scores >= threshold]
    if 'bboxes' not in truth:
        return 0, 0, 0
    objects = get_box_tensor(truth.bboxes).cpu()
    boxes = get_box_tensor(found.bboxes).cpu()
    if not len(objects) or not len(boxes):
        return len(objects), 0, 0
    best, index = pairwise_iou(objects, boxes).max(dim=1)
    fits = best >= 0.5
    is_right = found.labels.cpu()[index] == truth.labels.cpu()
    return len(objects), int(fits.sum()), int((fits & is_right).sum())


@contextmanager
def _any_score(model: nn.Module) -> Iterator[float | None]:
    """Let a model keep all scores, and yield the lowest one that it keeps otherwise."""
    parts = [
        module
        for module in model.modules()
        if (getattr(module, 'test_cfg', None) or {}).get('score_thr') is not None
    ]
    before = [part.test_cfg for part in parts]
    try:
        for part in parts:
            part.test_cfg = copy.copy(part.test_cfg)
            part.test_cfg['score_thr'] = 0.0
        yield min((cfg['score_thr'] for cfg in before), default=None)
    finally:
        for part, cfg in zip(parts, before, strict=True):
            part.test_cfg = cfg


def _optimizer(cfg: Config) -> Mapping:
    return (cfg.get('optim_wrapper') or {}).get('optimizer') or {}
