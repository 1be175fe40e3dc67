"""Assignment of the anchors of an image to its objects, as in training."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import torch
from mmdet.models import RPNHead
from mmdet.models.task_modules import AnchorGenerator, BboxOverlaps2D, MaxIoUAssigner
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor, nn

from focal_retinanet.models.targets import exclude_anchors, match_anchors
from focal_retinanet.ops.matching import IGNORED, pairwise_iou

# Most IoUs in memory at a time.
_TILE = 2**24
# Tolerance for an IoU that equals the threshold but is computed in another way.
_ROUNDING = 1e-5


class NoAnchorsError(Exception):
    """The detector has no anchors that are assigned by IoU."""


class Kind(IntEnum):
    """Kind of anchors that an object gets."""

    COVERED = 0  # anchors with IoU >= pos_iou_thr
    LOW_QUALITY = 1  # only anchors below it, as its best ones
    NONE = 2  # no anchor at all


@dataclass(frozen=True)
class Assignment:
    """Assignment of N anchors to M objects of one image.

    Boxes are xyxy in pixels of the input.

    Attributes:
        gt_bboxes: Objects (M, 4).
        anchors: Anchors (N, 4), level by level.
        level: Index (N,) of each anchor's level, int64.
        matched: (N,) int64: 0 for background, -1 for ignored, i + 1 for object i.
        low_quality: Mask (N,), bool, of positives whose IoU with their object is below
            the threshold of positives.
        ignored: Mask (N,), bool, of anchors that are neither positive nor background,
            without those that the head excludes.
        best_iou: Highest IoU (M,) with any anchor; 0 without anchors.
        best_level: Level (M,) of that anchor, int64.
        num_positives: Number of positives (M,), int64.
        num_low_quality: Number of low-quality matches (M,) among them, int64.
    """

    gt_bboxes: Tensor
    anchors: Tensor
    level: Tensor
    matched: Tensor
    low_quality: Tensor
    ignored: Tensor
    best_iou: Tensor
    best_level: Tensor
    num_positives: Tensor
    num_low_quality: Tensor

    @property
    def positive(self) -> Tensor:
        """Mask (N,), bool, including low-quality matches."""
        return self.matched > 0

    @property
    def kinds(self) -> Tensor:
        """:class:`Kind` (M,) of each object, int64."""
        kinds = torch.full_like(self.num_positives, Kind.COVERED)
        kinds[self.num_positives == self.num_low_quality] = Kind.LOW_QUALITY
        kinds[self.num_positives == 0] = Kind.NONE
        return kinds


def describe_assignment(
    gt_bboxes: Tensor,
    level_anchors: list[Tensor],
    matched: Tensor,
    pos_iou_thr: float,
    usable: Tensor | None = None,
    iou_fn: Callable[[Tensor, Tensor], Tensor] = pairwise_iou,
) -> Assignment:
    """Describe an assigner's result per object and per anchor.

    Args:
        gt_bboxes: Objects (M, 4), xyxy, absolute pixels; M may be 0.
        level_anchors: Anchors (N_l, 4) of each level, likewise; N in total.
        matched: (N,) int64: 0 for background, -1 for ignored, i + 1 for object i.
        pos_iou_thr: Lowest IoU of a positive that is not a low-quality match.
        usable: Mask (N,), bool, of anchors that the head does not exclude.
        iou_fn: Function that maps (M, 4) and (N, 4) to (M, N).
    """
    anchors = torch.cat(level_anchors)
    counts = torch.tensor([len(of_level) for of_level in level_anchors])
    level = torch.repeat_interleave(torch.arange(len(counts)), counts)
    if usable is None:
        usable = torch.ones(len(anchors), dtype=torch.bool)

    own_iou = torch.zeros(len(anchors))
    best_iou = torch.zeros(len(gt_bboxes))
    best_level = torch.zeros(len(gt_bboxes), dtype=torch.int64)
    tile = max(1, _TILE // max(1, len(anchors)))
    for start in range(0, len(gt_bboxes) if usable.any() else 0, tile):
        ious = iou_fn(gt_bboxes[start : start + tile], anchors)  # (T, N)
        best, index = ious.masked_fill(~usable, -1).max(dim=1)
        best_iou[start : start + tile] = best
        best_level[start : start + tile] = level[index]
        of_tile = (matched > start) & (matched <= start + len(ious))
        row = matched[of_tile] - 1 - start
        own_iou[of_tile] = ious[row, of_tile.nonzero().squeeze(1)]

    positive = matched > 0
    low_quality = positive & (own_iou < pos_iou_thr - _ROUNDING)

    def count(of_anchors: Tensor) -> Tensor:
        return torch.bincount(matched[of_anchors] - 1, minlength=len(gt_bboxes))

    return Assignment(
        gt_bboxes=gt_bboxes,
        anchors=anchors,
        level=level,
        matched=matched,
        low_quality=low_quality,
        ignored=(matched == IGNORED) & usable,
        best_iou=best_iou,
        best_level=best_level,
        num_positives=count(positive),
        num_low_quality=count(low_quality),
    )


@dataclass(frozen=True)
class AnchorRule:
    """Anchors of a head and their assignment, as in training.

    Args:
        generator: Generator of the anchors.
        assigner: Assigner of this package or of mmdet.
        allowed_border: Distance in pixels that an anchor may extend beyond the image;
            any distance if negative.
        key: Key of the generator in a config.
    """

    generator: AnchorGenerator
    assigner: MaxIoUAssigner
    allowed_border: int = -1
    key: str = 'model.bbox_head.anchor_generator'

    @classmethod
    def of_detector(cls, model: nn.Module) -> 'AnchorRule':
        """Return the rule of a detector's dense head or RPN.

        Raises:
            NoAnchorsError: The detector has no anchors that are assigned by IoU.
        """
        name = 'rpn_head' if hasattr(model, 'rpn_head') else 'bbox_head'
        if not hasattr(model, name):
            raise NoAnchorsError(f'{type(model).__name__} has no dense head')
        head = getattr(model, name)
        generator = getattr(head, 'prior_generator', None)
        if not isinstance(generator, AnchorGenerator):
            raise NoAnchorsError(f'{type(head).__name__} has no anchors')
        assigner = getattr(head, 'assigner', None)
        if not isinstance(assigner, MaxIoUAssigner):
            how = 'nothing' if assigner is None else type(assigner).__name__
            raise NoAnchorsError(
                f'{type(head).__name__} assigns its anchors by {how}, not by an IoU '
                'threshold (MaxIoUAssigner)'
            )
        # mmdet's detector RPN calls its head bbox_head, but its config rpn_head.
        name = 'rpn_head' if isinstance(head, RPNHead) else name
        return cls(
            generator,
            assigner,
            head.train_cfg.get('allowed_border', -1),
            f'model.{name}.anchor_generator',
        )

    @property
    def strides(self) -> list[int]:
        """Stride of each level in pixels, the horizontal one if it is not square."""
        return [stride[0] for stride in self.generator.strides]

    def level_anchors(self, input_shape: tuple[int, int]) -> list[Tensor]:
        """Return the anchors (N_l, 4) of each level, xyxy, of a padded input."""
        grids = self.generator.grid_priors(
            self._featmap_sizes(input_shape), device='cpu'
        )
        return [get_box_tensor(grid) for grid in grids]

    def assign(
        self,
        gt_instances: InstanceData,
        img_shape: tuple[int, int],
        input_shape: tuple[int, int],
        gt_instances_ignore: InstanceData | None = None,
    ) -> Assignment:
        """Assign the anchors of one image, alone in its batch, as training does.

        Args:
            gt_instances: ``bboxes`` (M, 4), xyxy in pixels of the input, and
                ``labels`` (M,); M may be 0.
            img_shape: (height, width) of the image.
            input_shape: (height, width) of the padded image.
            gt_instances_ignore: ``bboxes`` of crowds.
        """
        level_anchors = self.level_anchors(input_shape)
        anchors = torch.cat(level_anchors)
        excluded = exclude_anchors(
            anchors,
            self._featmap_sizes(input_shape),
            self.generator.strides,
            [dict(img_shape=img_shape, pad_shape=input_shape)],
            self.allowed_border,
        )
        (matched,) = match_anchors(
            self.assigner,
            anchors,
            [len(level) for level in level_anchors],
            [gt_instances],
            [gt_instances_ignore],
            excluded,
        )
        calculator = self.assigner.iou_calculator
        return describe_assignment(
            get_box_tensor(gt_instances.bboxes),
            level_anchors,
            matched,
            self.assigner.pos_iou_thr,
            None if excluded is None else ~excluded[0],
            pairwise_iou if type(calculator) is BboxOverlaps2D else calculator,
        )

    def _featmap_sizes(self, input_shape: tuple[int, int]) -> list[tuple[int, int]]:
        height, width = input_shape
        return [
            (math.ceil(height / stride_h), math.ceil(width / stride_w))
            for stride_w, stride_h in self.generator.strides
        ]
