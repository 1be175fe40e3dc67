"""Rivals of the focal loss: anchors chosen by their loss, as in OHEM and SSD.

Named in a config as ``train_cfg.sampler`` of our ``RetinaHead``. They choose
which anchors have a classification loss; the box loss is over all positives,
so that the rows of a comparison differ in the classification alone.
"""

from abc import ABC, abstractmethod

import torch
from mmcv.ops import nms
from torch import Tensor

from focal_retinanet.ops.nms import native as nms_native
from focal_retinanet.ops.rivals import hard_negatives, hardest_after_nms
from focal_retinanet.registry import TASK_UTILS


class DenseSampler(ABC):
    """Chooses the anchors of an image that have a classification loss.

    Attributes:
        needs_bboxes: whether it looks at the predicted boxes.
        averages_over_samples: whether the classification loss is divided by
            the number of anchors that were chosen; else by that of the
            positives, as the focal loss is.
    """

    needs_bboxes = False
    averages_over_samples = False

    @abstractmethod
    def sample_anchors(
        self,
        losses: Tensor,
        is_positive: Tensor,
        is_ignored: Tensor,
        bboxes: Tensor | None,
    ) -> Tensor:
        """Which anchors are chosen, (N,) bool.

        Args:
            losses: (N,) classification loss of each anchor.
            is_positive: (N,) bool.
            is_ignored: (N,) bool, between the thresholds of the assigner.
            bboxes: (N, 4) xyxy predicted boxes, where ``needs_bboxes``.
        """


@TASK_UTILS.register_module()
class OHEMSampler(DenseSampler):
    """Online hard example mining for a dense head (table 1d).

    Args:
        num: anchors of an image's minibatch.
        nms_iou_thr: IoU of predicted boxes above which the one of lower loss
            is left out.
        neg_pos_ratio: negatives for each positive, 3 for "OHEM 1:3"; None to
            take the hardest, whatever they are.
        context: the head, which mmdet passes; not used.

    Raises:
        ValueError: an argument is outside of its range.
    """

    needs_bboxes = True
    averages_over_samples = True

    def __init__(
        self,
        num: int = 128,
        nms_iou_thr: float = 0.5,
        neg_pos_ratio: float | None = None,
        context=None,
    ) -> None:
        if num < 1:
            raise ValueError(f'num must be at least 1, got {num}')
        if not 0 < nms_iou_thr <= 1:
            raise ValueError(f'nms_iou_thr must be in (0, 1], got {nms_iou_thr}')
        _check_ratio(neg_pos_ratio)
        self.num = num
        self.nms_iou_thr = nms_iou_thr
        self.neg_pos_ratio = neg_pos_ratio

    def sample_anchors(
        self,
        losses: Tensor,
        is_positive: Tensor,
        is_ignored: Tensor,
        bboxes: Tensor | None,
    ) -> Tensor:
        return hardest_after_nms(
            losses,
            bboxes,
            is_positive,
            is_ignored,
            self.num,
            self._nms,
            self.neg_pos_ratio,
        )

    def _nms(self, bboxes: Tensor, scores: Tensor) -> Tensor:
        """Indices of the boxes (n, 4) that stay, best score first."""
        if nms_native.is_available(bboxes):
            of_one_group = torch.zeros(
                len(bboxes), dtype=torch.int64, device=bboxes.device
            )
            return nms_native.grouped_nms(
                bboxes, scores, of_one_group, self.nms_iou_thr, limit=len(bboxes)
            )
        return nms(bboxes, scores, self.nms_iou_thr)[1]


@TASK_UTILS.register_module()
class HardNegativeSampler(DenseSampler):
    """SSD's hard negative mining: all positives, the hardest negatives.

    Args:
        neg_pos_ratio: most negatives for each positive.
        context: the head, which mmdet passes; not used.

    Raises:
        ValueError: the ratio is not positive.
    """

    def __init__(self, neg_pos_ratio: float = 3, context=None) -> None:
        _check_ratio(neg_pos_ratio)
        self.neg_pos_ratio = neg_pos_ratio

    def sample_anchors(
        self,
        losses: Tensor,
        is_positive: Tensor,
        is_ignored: Tensor,
        bboxes: Tensor | None,
    ) -> Tensor:
        return hard_negatives(losses, is_positive, is_ignored, self.neg_pos_ratio)


def _check_ratio(neg_pos_ratio: float | None) -> None:
    if neg_pos_ratio is not None and neg_pos_ratio <= 0:
        raise ValueError(f'neg_pos_ratio must be > 0, got {neg_pos_ratio}')
