"""Max-IoU assignment as a component of a config."""

import functools
from collections.abc import Callable, Sequence

import torch
from mmdet.models.task_modules import AssignResult, BboxOverlaps2D
from mmdet.models.task_modules import MaxIoUAssigner as MMDetMaxIoUAssigner
from mmdet.models.task_modules.assigners.max_iou_assigner import perm_repeat_bboxes
from mmdet.structures.bbox import BaseBoxes, get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from focal_retinanet.ops.fast_paths.overrides import overridden
from focal_retinanet.ops.matching import MatchingRule, match_max_iou_batch
from focal_retinanet.registry import TASK_UTILS


@TASK_UTILS.register_module()
class MaxIoUAssigner(MMDetMaxIoUAssigner):
    """Assign anchors by IoU (section 4), drop-in for mmdet's ``MaxIoUAssigner``.

    The result is mmdet's, with one exception: an object that no anchor overlaps gets no
    anchor, whereas mmdet with ``min_pos_iou=0`` gives it every anchor of the image
    (mmdetection issues 6821 and 8289). If a derived class overrides
    ``assign_wrt_overlaps``, mmdet's code calls it.

    Args:
        pos_iou_thr: Lowest IoU of a positive anchor, 0.5 in the paper.
        neg_iou_thr: IoU below which an anchor is background, 0.4 in the paper; or an
            interval [low, high) as a tuple or a list. Anchors between it and
            ``pos_iou_thr`` are ignored.
        *args: Other arguments of mmdet's class.
        **kwargs: Other arguments of mmdet's class.

    Raises:
        ValueError: The thresholds are not numbers or not in order.
    """

    def __init__(
        self,
        pos_iou_thr: float,
        neg_iou_thr: float | tuple[float, float] | list[float],
        *args,
        **kwargs,
    ) -> None:
        low, high = _background_ious(neg_iou_thr)
        if not low <= high <= pos_iou_thr:
            raise ValueError(
                'thresholds must be ordered: neg_iou_thr low <= high <= pos_iou_thr, '
                f'got {low}, {high}, {pos_iou_thr}'
            )
        super().__init__(float(pos_iou_thr), (low, high), *args, **kwargs)

    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        **kwargs,
    ) -> AssignResult:
        """Assign the anchors of one image.

        Args:
            pred_instances: ``priors`` (N, 4), xyxy, absolute pixels. A fifth column of
                scores is ignored, as in mmdet.
            gt_instances: ``bboxes`` (M, 4), likewise, and ``labels`` (M,); M may be 0.
            gt_instances_ignore: ``bboxes`` of crowds and ignored regions.

        Returns:
            ``gt_inds`` (N,), int64: 0 for background, -1 for ignored, i + 1 for object
            i; ``max_overlaps`` (N,); ``labels`` (N,), int64, -1 without an object.
        """
        if overridden(self, MaxIoUAssigner, 'assign_wrt_overlaps'):
            return super().assign(
                pred_instances, gt_instances, gt_instances_ignore, **kwargs
            )
        gt_inds, max_overlaps = self.assign_batch(
            pred_instances.priors, [gt_instances], [gt_instances_ignore]
        )
        gt_inds, max_overlaps = gt_inds[0], max_overlaps[0]
        labels = gt_inds.new_full(gt_inds.shape, -1)
        positive = gt_inds > 0
        # The labels of an image without objects may have any dtype.
        labels[positive] = gt_instances.labels.to(labels)[gt_inds[positive] - 1]
        return AssignResult(
            num_gts=len(gt_instances.bboxes),
            gt_inds=gt_inds,
            max_overlaps=max_overlaps,
            labels=labels,
        )

    def assign_batch(
        self,
        priors: Tensor,
        batch_gt_instances: Sequence[InstanceData],
        batch_gt_instances_ignore: Sequence[InstanceData | None],
        excluded: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Assign the same anchors to the objects of each of B images.

        Args:
            priors: Anchors (N, 4), xyxy, absolute pixels.
            batch_gt_instances: ``bboxes`` (M_b, 4) of each image, likewise.
            batch_gt_instances_ignore: ``bboxes`` of crowds and ignored regions of each
                image, or None.
            excluded: Mask (B, N), bool, of anchors that are ignored, or None.

        Returns:
            - (B, N) int64: 0 for background, -1 for ignored, i + 1 for object i, with
              objects counted over all images.
            - (B, N) highest IoU of each anchor.
        """
        device = priors.device
        priors, *gt_bboxes = _promote(
            [_corners(priors), *(_corners(gt.bboxes) for gt in batch_gt_instances)]
        )
        if 0 < self.gpu_assign_thr < max(map(len, gt_bboxes)):
            priors = priors.cpu()
            gt_bboxes = [gts.cpu() for gts in gt_bboxes]
            excluded = None if excluded is None else excluded.cpu()
        if self.perm_repeat_gt_cfg is not None and len(priors):
            gt_bboxes = [
                perm_repeat_bboxes(gts, self.iou_calculator, self.perm_repeat_gt_cfg)
                for gts in gt_bboxes
            ]
        # Read in each call, because Dynamic R-CNN changes the thresholds in training.
        rule = MatchingRule(
            self.pos_iou_thr,
            _background_ious(self.neg_iou_thr),
            self.min_pos_iou,
            self.match_low_quality,
            self.gt_max_assign_all,
        )
        excluded = self._exclude_crowds(
            priors, gt_bboxes, batch_gt_instances_ignore, excluded
        )
        matched, max_ious = match_max_iou_batch(
            priors, gt_bboxes, rule, excluded, self._iou_fn
        )
        return matched.to(device), max_ious.to(device)

    @property
    def _iou_fn(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        # match_max_iou_batch computes the IoU of mmdet's default calculator itself.
        calculator = self.iou_calculator
        plain = type(calculator) is BboxOverlaps2D and calculator.dtype is None
        return None if plain else calculator

    def _exclude_crowds(
        self,
        priors: Tensor,
        gt_bboxes: Sequence[Tensor],
        batch_gt_instances_ignore: Sequence[InstanceData | None],
        excluded: Tensor | None,
    ) -> Tensor | None:
        """Return ``excluded`` and the anchors that crowds cover, (B, N) bool."""
        if self.ignore_iof_thr <= 0 or not len(priors):
            return excluded
        shape = (len(gt_bboxes), len(priors))
        covered = torch.zeros(shape, dtype=torch.bool, device=priors.device)
        for b, ignore in enumerate(batch_gt_instances_ignore):
            # Without objects, all anchors are background, as in mmdet.
            if ignore is None or not len(ignore.bboxes) or not len(gt_bboxes[b]):
                continue
            regions = _corners(ignore.bboxes).to(priors)
            if self.ignore_wrt_candidates:  # share of the anchor
                iof = self.iou_calculator(priors, regions, mode='iof').amax(dim=1)
            else:  # share of the region
                iof = self.iou_calculator(regions, priors, mode='iof').amax(dim=0)
            covered[b] = iof > self.ignore_iof_thr
        return covered if excluded is None else covered | excluded


def _background_ious(
    neg_iou_thr: float | tuple[float, float] | list[float],
) -> tuple[float, float]:
    """Return [low, high) for the ``neg_iou_thr`` of a config.

    Raises:
        ValueError: It is neither one number nor two.
    """
    if isinstance(neg_iou_thr, int | float):
        return 0.0, float(neg_iou_thr)
    if len(neg_iou_thr) != 2:  # a tuple, or a list in a dumped config
        raise ValueError(
            f'neg_iou_thr must be a number or (low, high), got {neg_iou_thr}'
        )
    low, high = neg_iou_thr
    return float(low), float(high)


def _corners(bboxes: Tensor | BaseBoxes) -> Tensor:
    """Return (n, 4) xyxy for tensors or typed boxes, with or without scores."""
    bboxes = get_box_tensor(bboxes)
    return bboxes[:, :4] if bboxes.numel() else bboxes.reshape(-1, 4)


def _promote(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors in their common floating dtype; fp32 for integers."""
    dtype = functools.reduce(torch.promote_types, (t.dtype for t in tensors))
    if not dtype.is_floating_point:
        dtype = torch.float32
    return [t.to(dtype) for t in tensors]
