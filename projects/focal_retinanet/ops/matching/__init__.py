"""Matching of anchors to objects by their IoU (section 4, "Anchors").

``max_iou.py`` has the rule and chooses among three backends: ``native.py`` (C++, on a
CPU), ``triton.py`` (on an NVIDIA GPU), ``plain.py`` (plain PyTorch, anywhere).
"""

from focal_retinanet.ops.matching.max_iou import (
    IGNORED,
    UNMATCHED,
    MatchingRule,
    match_max_iou,
    match_max_iou_batch,
    pairwise_iou,
)

__all__ = [
    'IGNORED',
    'UNMATCHED',
    'MatchingRule',
    'match_max_iou',
    'match_max_iou_batch',
    'pairwise_iou',
]
