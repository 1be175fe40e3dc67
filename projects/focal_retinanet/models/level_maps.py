"""Maps of a head, read in the order of the anchors."""

import torch
from torch import Tensor


def featmap_sizes(maps: list[Tensor]) -> list[tuple[int, int]]:
    """Return (height, width) of each level."""
    return [tuple(m.shape[-2:]) for m in maps]


def flatten_levels(maps: list[Tensor], channels: int) -> Tensor:
    """Map (B, A*channels, H, W) of each level to (B*N, channels) in anchor order."""
    return torch.cat(
        [m.permute(0, 2, 3, 1).reshape(len(m), -1, channels) for m in maps], dim=1
    ).flatten(0, 1)


def gather_positives(
    bbox_preds: list[Tensor], anchors: Tensor, matched: Tensor, channels: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return deltas, anchors and objects of the P positives, level by level.

    Args:
        bbox_preds: Deltas (B, A*channels, H, W) of each level.
        anchors: Anchors (N, 4), xyxy.
        matched: Object of each anchor (B, N): i + 1 for object i, otherwise <= 0.
        channels: Number of deltas per anchor.

    Returns:
        Deltas (P, channels), anchors (P, 4) and object indices (P,), int64.
    """
    deltas, positive_anchors, objects = [], [], []
    first_anchor = 0
    for maps in bbox_preds:
        batch, height, width = len(maps), *maps.shape[-2:]
        maps = maps.reshape(batch, -1, channels, height * width)
        stop = first_anchor + maps.size(1) * maps.size(3)
        level_matched = matched[:, first_anchor:stop]
        image, anchor = (level_matched > 0).nonzero(as_tuple=True)
        cell, a = anchor // maps.size(1), anchor % maps.size(1)
        deltas.append(maps[image, a, :, cell])
        positive_anchors.append(anchors[first_anchor + anchor])
        objects.append(level_matched[image, anchor] - 1)
        first_anchor = stop
    return torch.cat(deltas), torch.cat(positive_anchors), torch.cat(objects)


def blank_negatives(
    bbox_preds: list[Tensor],
    anchors: Tensor,
    matched: Tensor,
    gt_bboxes: Tensor,
    channels: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return deltas, anchors and target boxes of all anchors.

    The host need not know how many anchors are positive. The others get deltas of 0 and
    themselves as the target, so their predictions reach neither the loss nor the
    gradient.

    Args:
        bbox_preds: Deltas (B, A*channels, H, W) of each level.
        anchors: Anchors (N, 4), xyxy.
        matched: Object of each anchor (B, N): i + 1 for object i, otherwise <= 0.
        gt_bboxes: Objects (M, 4) of all images, xyxy; M > 0.
        channels: Number of deltas per anchor.

    Returns:
        Deltas (B*N, channels), anchors (B*N, 4) and target boxes (B*N, 4).
    """
    positive = matched.flatten()[:, None] > 0  # (B*N, 1)
    deltas = flatten_levels(bbox_preds, channels)
    deltas = torch.where(positive, deltas, torch.zeros_like(deltas))
    anchors = anchors.repeat(len(matched), 1)
    objects = gt_bboxes[(matched.flatten() - 1).clamp(min=0)]
    return deltas, anchors, torch.where(positive, objects.to(anchors), anchors)
