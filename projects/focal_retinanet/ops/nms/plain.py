"""Non-maximum suppression in plain PyTorch, on any device (section 4.1, "Inference")."""

import torch
from torch import Tensor


def grouped_nms_mask(
    bboxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float
) -> Tensor:
    """Suppress boxes within each group.

    A box stays unless a better box of its group that stays overlaps it. This is solved
    for all boxes at once, by repeating it until nothing changes: the best boxes are
    right after the first round, and those that depend on them one round later.

    Args:
        bboxes: Boxes (N, 4), xyxy.
        scores: Scores (N,). Among equal scores, the earlier box is better.
        groups: Group (N,) of each box, int64.
        iou_threshold: IoU with a better box above which a box is suppressed.

    Returns:
        Whether each box stays (N,), bool.
    """
    order = scores.argsort(descending=True, stable=True)
    boxes, groups = bboxes[order], groups[order]
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    top_left = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    bottom_right = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    overlap = (bottom_right - top_left).clamp(min=0).prod(dim=2)
    union = area[:, None] + area[None] - overlap
    suppresses = (overlap / union > iou_threshold) & (groups[:, None] == groups[None])
    suppresses = suppresses.triu(diagonal=1)
    stays = torch.ones_like(groups, dtype=torch.bool)
    while True:
        before = stays
        stays = ~(suppresses & before[:, None]).any(dim=0)
        if torch.equal(stays, before):
            break
    result = torch.empty_like(stays)
    result[order] = stays
    return result
