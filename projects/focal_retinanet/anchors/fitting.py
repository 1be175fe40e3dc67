"""Anchors for the objects of a data set whose input size is chosen already."""

import math
from dataclasses import dataclass

import torch
from mmdet.models.task_modules import AnchorGenerator
from torch import Tensor

from focal_retinanet.anchors.advice import FITS, MOST_OBJECTS, WORTHWHILE, Trial, choose


@dataclass(frozen=True)
class Fit:
    """Anchors for a data set.

    Attributes:
        settings: Settings of the generator that differ from those it has.
        share: Share of the objects that have an anchor of IoU >= ``pos_iou_thr``.
        share_before: The same with the generator as it was.
        why_not: Reason why the other objects have none; empty if the anchors fit.
    """

    settings: dict[str, float | list[float]]
    share: float
    share_before: float
    why_not: str = ''


def fit_anchors(
    boxes: Tensor,
    input_shapes: Tensor,
    generator: AnchorGenerator,
    pos_iou_thr: float,
) -> Fit:
    """Change scales and ratios until the anchors reach nearly all objects.

    Args:
        boxes: (M, 4) xyxy in pixels of the input, M > 0.
        input_shapes: (M, 2) height and width of the padded input.
        generator: Generator of the anchors, with an ``octave_base_scale``.
        pos_iou_thr: Lowest IoU of a positive.
    """
    every = math.ceil(len(boxes) / MOST_OBJECTS)
    trial = Trial(boxes[::every], input_shapes[::every], generator, pos_iou_thr)
    plan = trial.start
    share = before = trial.share(plan)
    while share < FITS:
        changes = trial.changes(plan)
        changes.pop('input', None)
        if not changes:
            break
        further = choose({kind: trial.best(plans) for kind, plans in changes.items()})
        if further[1] < share + WORTHWHILE / 2:
            break
        plan, share = further

    settings: dict[str, float | list[float]] = {}
    if plan.size != trial.start.size:
        base = generator.octave_base_scale * plan.size
        settings['octave_base_scale'] = int(base) if base == int(base) else base
    if plan.per_octave != trial.start.per_octave:
        settings['scales_per_octave'] = plan.per_octave
    if plan.ratios != trial.start.ratios:
        settings['ratios'] = [float(f'{ratio:.3g}') for ratio in plan.ratios]
    why_not = '' if share >= FITS else trial.why_missed(plan)
    return Fit(settings, share, before, why_not)


def boxes_of_input(
    boxes: Tensor, sizes: Tensor, scale: tuple[int, int], divisor: int
) -> tuple[Tensor, Tensor]:
    """Resize boxes as mmdet's ``Resize(scale, keep_ratio=True)`` resizes their images.

    Args:
        boxes: (M, 4) xyxy in pixels of the image.
        sizes: (M, 2) width and height of each box's image.
        scale: Longest and shortest side that an image may have, in any order.
        divisor: Number that the padded sides are divisible by.

    Returns:
        Boxes (M, 4) in pixels of the input, and the height and width (M, 2) of the
        padded input.
    """
    sizes = sizes.double()
    longer, shorter = sizes.amax(dim=1), sizes.amin(dim=1)
    factor = torch.minimum(max(scale) / longer, min(scale) / shorter)[:, None]
    resized = (sizes * factor + 0.5).floor()  # as mmcv rounds
    padded = (resized / divisor).ceil() * divisor
    factors = (resized / sizes).to(boxes.dtype).repeat(1, 2)
    return boxes * factors, padded.to(boxes.dtype).flip(1)
