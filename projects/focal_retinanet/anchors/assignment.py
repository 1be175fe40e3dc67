"""Which anchors of an image train on which object."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import torch
from mmdet.models import RPNHead
from mmdet.models.task_modules import (
    AnchorGenerator,
    AssignResult,
    BboxOverlaps2D,
    MaxIoUAssigner,
)
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor, nn

from focal_retinanet.ops.matching import IGNORED, pairwise_iou

# The most IoUs that are held at a time.
_TILE = 2**24
# Two ways to compute an IoU that is just the threshold may differ by this.
_ROUNDING = 1e-5


class NoAnchorsError(Exception):
    """A detector without anchors that are assigned by IoU; says which and why."""


class Kind(IntEnum):
    """What an object gets to train on."""

    COVERED = 0  # anchors with IoU >= pos_iou_thr
    LOW_QUALITY = 1  # only anchors below it, which it has as their best
    NONE = 2  # no anchor at all


@dataclass(frozen=True)
class Assignment:
    """N anchors and M objects of one image, boxes as xyxy pixels of the input.

    Attributes:
        gt_bboxes: (M, 4).
        anchors: (N, 4), level after level.
        level: (N,) int64, index of each anchor's level.
        matched: (N,) int64: 0 background, -1 ignored, i + 1 for object i.
        low_quality: (N,) bool, positives whose IoU with their object is below
            the threshold of positives.
        ignored: (N,) bool, neither positive nor background; without those that
            the head leaves out because they stick out of the image.
        best_iou: (M,) highest IoU with any anchor; 0 if there is none.
        best_level: (M,) int64, level of that anchor.
        num_positives: (M,) int64.
        num_low_quality: (M,) int64, of the positives.
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
        """(N,) bool, low-quality matches among them."""
        return self.matched > 0

    @property
    def kinds(self) -> Tensor:
        """(M,) int64, a :class:`Kind` each."""
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
    """What an assigner's result means for each object and each anchor.

    Args:
        gt_bboxes: (M, 4) xyxy, absolute pixels; M may be 0.
        level_anchors: (N_l, 4) of each level, likewise; N in all.
        matched: (N,) int64: 0 background, -1 ignored, i + 1 for object i.
        pos_iou_thr: lowest IoU of a positive that is no low-quality match.
        usable: (N,) bool, anchors that the head does not leave out.
        iou_fn: maps (M, 4) and (N, 4) to (M, N).
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
    """The anchors of a head and who gets them, as in training.

    Args:
        generator: of the anchors.
        assigner: mmdet's or ours.
        allowed_border: how far an anchor may stick out of the image, in pixels;
            below 0 as far as it likes.
        key: where a config has the generator.
    """

    generator: AnchorGenerator
    assigner: MaxIoUAssigner
    allowed_border: int = -1
    key: str = 'model.bbox_head.anchor_generator'

    @classmethod
    def of_detector(cls, model: nn.Module) -> 'AnchorRule':
        """That of a detector's dense head: its only one, or the RPN of two stages.

        Raises:
            NoAnchorsError: it has none.
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
                f'{type(head).__name__} has its anchors assigned by {how}, not by a '
                'threshold of the IoU (MaxIoUAssigner)'
            )
        # mmdet's detector RPN calls its head bbox_head, its config does not.
        name = 'rpn_head' if isinstance(head, RPNHead) else name
        return cls(
            generator,
            assigner,
            head.train_cfg.get('allowed_border', -1),
            f'model.{name}.anchor_generator',
        )

    @property
    def strides(self) -> list[int]:
        """Of each level, in pixels; where it is not square, its width."""
        return [stride[0] for stride in self.generator.strides]

    def level_anchors(self, input_shape: tuple[int, int]) -> list[Tensor]:
        """(N_l, 4) xyxy of each level, for a padded input of (height, width)."""
        sizes = [
            (math.ceil(input_shape[0] / h), math.ceil(input_shape[1] / w))
            for w, h in self.generator.strides
        ]
        grids = self.generator.grid_priors(sizes, device='cpu')
        return [get_box_tensor(grid) for grid in grids]

    def assign(
        self,
        gt_instances: InstanceData,
        img_shape: tuple[int, int],
        input_shape: tuple[int, int],
        gt_instances_ignore: InstanceData | None = None,
    ) -> Assignment:
        """The assignment of one image, alone in its batch.

        Args:
            gt_instances: ``bboxes`` (M, 4) xyxy in pixels of the input, and
                ``labels`` (M,); M may be 0.
            img_shape: (height, width) of the image.
            input_shape: (height, width) with padding.
            gt_instances_ignore: ``bboxes`` of crowds.
        """
        level_anchors = self.level_anchors(input_shape)
        anchors = torch.cat(level_anchors)
        usable = anchor_inside_flags(
            anchors,
            torch.ones(len(anchors), dtype=torch.bool),
            img_shape,
            self.allowed_border,
        )
        result: AssignResult = self.assigner.assign(
            InstanceData(priors=anchors[usable]), gt_instances, gt_instances_ignore
        )
        matched = torch.full((len(anchors),), IGNORED)
        matched[usable] = result.gt_inds
        calculator = self.assigner.iou_calculator
        return describe_assignment(
            get_box_tensor(gt_instances.bboxes),
            level_anchors,
            matched,
            self.assigner.pos_iou_thr,
            usable,
            pairwise_iou if type(calculator) is BboxOverlaps2D else calculator,
        )
