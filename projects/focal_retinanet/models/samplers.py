"""Rivals of the focal loss that choose anchors by their loss, as OHEM and SSD do.

A config names them as ``train_cfg.sampler`` of ``focal_retinanet.RetinaHead``. They
choose the anchors that have a classification loss. The box loss covers all positives, so
that the rows of a comparison differ in the classification only.
"""

import functools
from abc import ABC, abstractmethod

from torch import Tensor

from focal_retinanet.models.nms import nms
from focal_retinanet.ops.rivals import hard_negatives, hardest_after_nms
from focal_retinanet.registry import TASK_UTILS


class DenseSampler(ABC):
    """Base class of samplers that choose anchors with a classification loss.

    Attributes:
        needs_bboxes: Whether the sampler uses the predicted boxes.
        averages_over_samples: Whether the classification loss is divided by the number
            of chosen anchors. If false, it is divided by the number of positives, like
            the focal loss.
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
        """Return the mask (N,) of the chosen anchors of an image, bool.

        Args:
            losses: Classification loss (N,) of each anchor.
            is_positive: Mask (N,), bool.
            is_ignored: Mask (N,), bool, of anchors between the assigner's thresholds.
            bboxes: Predicted boxes (N, 4), xyxy, if ``needs_bboxes``.
        """


@TASK_UTILS.register_module()
class OHEMSampler(DenseSampler):
    """Online hard example mining for a dense head (table 1d).

    Args:
        num: Number of anchors in an image's minibatch.
        nms_iou_thr: IoU of predicted boxes above which the box of lower loss is
            suppressed.
        neg_pos_ratio: Number of negatives per positive, 3 for "OHEM 1:3"; None to take
            the hardest anchors.
        context: Head, which mmdet passes; not used.

    Raises:
        ValueError: An argument is out of range.
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
            functools.partial(nms, iou_threshold=self.nms_iou_thr),
            self.neg_pos_ratio,
        )


@TASK_UTILS.register_module()
class HardNegativeSampler(DenseSampler):
    """SSD's hard negative mining: all positives, the hardest negatives.

    Args:
        neg_pos_ratio: Highest number of negatives per positive.
        context: Head, which mmdet passes; not used.

    Raises:
        ValueError: The ratio is not positive.
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
