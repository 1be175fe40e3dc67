"""What a config for a data set needs, chosen from its images and boxes.

Each choice comes with its reason, which the config and the console show.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import TASK_UTILS
from mmengine.config import Config

from focal_retinanet.anchors.fitting import boxes_of_input, fit_anchors
from focal_retinanet.data.coco_boxes import are_usable
from focal_retinanet.data.formats import DataFolder, FormatError, Split
from focal_retinanet.engine.new_config.recipes import Recipe

# Side of an object in pixels of the input below which COCO calls it small.
_SMALL = 32
# Share of the objects that may be small.
_SMALL_SHARE = 0.05
_CROP = 448
_PASSES = 8
_ITERATIONS = (400, 20_000)
_VALIDATIONS = 4


@dataclass(frozen=True)
class Choice:
    """A setting and the reason for it."""

    value: object
    reason: str


@dataclass(frozen=True)
class Choices:
    """All choices for a config.

    Attributes:
        scale: (longer, shorter) side of the input, at most, as ``Resize`` takes it.
        crop: (height, width) of the crops of training images, or None.
        anchors: Settings of the anchor generator.
        batch_size: Images of an iteration.
        lr: Learning rate.
        max_iters: Iterations of training.
        weights: Checkpoint of the backbone.
        preprocessor: Settings of the preprocessor that the weights need.
    """

    scale: Choice
    crop: Choice | None
    anchors: Choice
    batch_size: Choice
    lr: Choice
    max_iters: Choice
    weights: Choice
    preprocessor: dict


def choose_settings(data: DataFolder, recipe: Recipe, bases: Path) -> Choices:
    """Choose the settings of a config.

    Args:
        data: Data set without errors.
        recipe: Model and optimizer.
        bases: Folder of the configs that the config inherits from.

    Raises:
        FormatError: There is no object to learn.
    """
    train = data.splits['train']
    boxes, box_sizes = _objects(train)
    if not len(boxes):
        raise FormatError(f'{train.source}: has no box to learn in its training images')
    images = train.coco['images']
    image_sizes = torch.tensor([[i['width'], i['height']] for i in images]).float()

    scale = _choose_scale(boxes, box_sizes, image_sizes, recipe)
    longer, shorter = scale.value
    crop = _choose_crop(boxes, box_sizes, scale.value, recipe)
    base = Config.fromfile(bases / recipe.base)
    batch_size = min(recipe.batch_size(longer * shorter), len(images))
    weights, preprocessor = recipe.find_weights()
    return Choices(
        scale=scale,
        crop=crop,
        anchors=_choose_anchors(boxes, box_sizes, scale.value, base),
        batch_size=Choice(batch_size, recipe.batch_reason),
        lr=Choice(recipe.learning_rate(batch_size), recipe.lr_reason),
        max_iters=_choose_iterations(len(images), batch_size),
        weights=Choice(weights, recipe.weights_reason(weights)),
        preprocessor=preprocessor,
    )


def _objects(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    """Return boxes (M, 4), xyxy in pixels, and width and height (M, 2) of the images."""
    size_of = {i['id']: (i['width'], i['height']) for i in split.coco['images']}
    annotations = [
        a
        for a in split.coco['annotations']
        if not a.get('iscrowd') and not a.get('ignore')
    ]
    xywh = [a['bbox'] for a in annotations]
    sizes = [size_of[a['image_id']] for a in annotations]
    usable = are_usable(xywh, [1] * len(xywh), sizes)
    boxes = torch.tensor(np.array(xywh).reshape(-1, 4)[usable]).float()
    boxes[:, 2:] += boxes[:, :2]
    return boxes, torch.tensor(np.array(sizes).reshape(-1, 2)[usable]).float()


def _sides(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt()


def _choose_scale(
    boxes: torch.Tensor,
    box_sizes: torch.Tensor,
    image_sizes: torch.Tensor,
    recipe: Recipe,
) -> Choice:
    """Choose the smallest input in which hardly an object is small."""
    relative = _sides(boxes) / box_sizes.amax(dim=1)
    wanted = _SMALL / relative.quantile(_SMALL_SHARE).item()
    longer = image_sizes.amax(dim=1).median().item()
    shorter = image_sizes.amin(dim=1).median().item()
    least, most = (min(longer, side) for side in recipe.longer_sides)
    side = min(max(wanted, least), most)
    side = _round(side, 32) if side < longer else int(longer)
    scale = (
        side,
        _round(side * shorter / longer, 8) if side < longer else int(shorter),
    )
    small = (relative * side < _SMALL).float().mean().item()
    images = f'{longer:g}x{shorter:g} pixels'
    if len(image_sizes.unique(dim=0)) > 1:
        images += ' in the median'
    return Choice(
        scale,
        f'the images have {images}; so {percent(small)} of the objects are smaller than '
        f'{_SMALL} pixels',
    )


def _choose_crop(
    boxes: torch.Tensor,
    box_sizes: torch.Tensor,
    scale: tuple[int, int],
    recipe: Recipe,
) -> Choice | None:
    """Choose crops where the input is large and the objects are small."""
    if not recipe.crops or min(scale) <= _CROP:
        return None
    scaled, _ = boxes_of_input(boxes, box_sizes, scale, 1)
    if (scaled[:, 2:] - scaled[:, :2]).amax(dim=1).quantile(0.95) > _CROP / 4:
        return None
    faster = scale[0] * scale[1] / _CROP**2
    return Choice(
        (_CROP, _CROP),
        f'an iteration is {faster:.1f} times as fast, and small objects stay whole',
    )


def _choose_anchors(
    boxes: torch.Tensor, box_sizes: torch.Tensor, scale: tuple[int, int], base: Config
) -> Choice:
    thr = base.model.train_cfg.assigner.pos_iou_thr
    scaled, shapes = boxes_of_input(
        boxes, box_sizes, scale, base.model.data_preprocessor.pad_size_divisor
    )
    generator = TASK_UTILS.build(base.model.bbox_head.anchor_generator)
    fit = fit_anchors(scaled, shapes, generator, thr)
    reason = f'{percent(fit.share)} of the objects have an anchor of IoU >= {thr:g}'
    if fit.settings:
        reason += f", {percent(fit.share_before)} with the paper's"
    if fit.why_not:
        reason += f'; of the others {fit.why_not}'
    paper = dict(octave_base_scale=int(generator.octave_base_scale))
    return Choice(paper | fit.settings, reason)


def _choose_iterations(num_images: int, batch_size: int) -> Choice:
    least, most = _ITERATIONS
    count = min(max(math.ceil(_PASSES * num_images / batch_size), least), most)
    count = math.ceil(count / (5 * _VALIDATIONS)) * 5 * _VALIDATIONS
    passes = count * batch_size / num_images
    reason = f'{passes:.3g} passes over {num_images} images'
    if count == least:
        reason += f'; fewer than {least} iterations are too few for new layers'
    return Choice(count, reason)


def percent(share: float) -> str:
    return f'{100 * share:.1f} %'


def _round(side: float, step: int) -> int:
    return max(step, round(side / step) * step)
