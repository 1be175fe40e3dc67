"""The thresholds of max-IoU matching; all backends take them."""

from typing import NamedTuple


class MatchingRule(NamedTuple):
    """Which IoUs make an anchor a positive, background, or ignored.

    Attributes:
        pos_iou_thr: Lowest IoU of a positive.
        neg_iou_thr: Interval [low, high) of the background's IoU.
        min_pos_iou: Lowest IoU of a low-quality match.
        match_low_quality: Whether each object also gets the anchors that overlap it
            most.
        gt_max_assign_all: Whether an object gets all anchors that tie for its highest
            IoU, or only the first.
    """

    pos_iou_thr: float = 0.5
    neg_iou_thr: tuple[float, float] = (0.0, 0.4)
    min_pos_iou: float = 0.0
    match_low_quality: bool = True
    gt_max_assign_all: bool = True
