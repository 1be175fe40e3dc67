"""The maps that a head's convolutions leave, read in the order of the anchors."""

import torch
from torch import Tensor


def featmap_sizes(maps: list[Tensor]) -> list[tuple[int, int]]:
    """(height, width) of each level."""
    return [tuple(m.shape[-2:]) for m in maps]


def flatten_levels(maps: list[Tensor], channels: int) -> Tensor:
    """(B, A*channels, H, W) of each level to (B*N, channels), as anchors are."""
    return torch.cat(
        [m.permute(0, 2, 3, 1).reshape(len(m), -1, channels) for m in maps], dim=1
    ).flatten(0, 1)


def gather_positives(
    bbox_preds: list[Tensor], anchors: Tensor, matched: Tensor, channels: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What the box loss needs of the P positives, level by level.

    Returns:
        Their deltas (P, channels), anchors (P, 4), and objects (P,) int64.
    """
    deltas, positive_anchors, objects = [], [], []
    first_anchor = 0
    for maps in bbox_preds:
        batch, height, width = len(maps), *maps.shape[-2:]
        maps = maps.reshape(batch, -1, channels, height * width)
        stop = first_anchor + maps.size(1) * maps.size(3)
        of_level = matched[:, first_anchor:stop]
        image, anchor = (of_level > 0).nonzero(as_tuple=True)
        cell, a = anchor // maps.size(1), anchor % maps.size(1)
        deltas.append(maps[image, a, :, cell])
        positive_anchors.append(anchors[first_anchor + anchor])
        objects.append(of_level[image, anchor] - 1)
        first_anchor = stop
    return torch.cat(deltas), torch.cat(positive_anchors), torch.cat(objects)


def blank_negatives(
    bbox_preds: list[Tensor],
    anchors: Tensor,
    matched: Tensor,
    gt_bboxes: Tensor,
    channels: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """What the box loss needs of all anchors, without asking how many are positive.

    An anchor without an object has deltas of 0 and itself as the target, so that
    whatever the network says of it reaches neither the loss nor the gradient.

    Args:
        bbox_preds: (B, A*channels, H, W) of each level.
        anchors: (N, 4) xyxy.
        matched: (B, N), i + 1 for object i.
        gt_bboxes: (M, 4) xyxy objects of all images, M > 0.
        channels: deltas of an anchor.

    Returns:
        Deltas (B*N, channels), anchors (B*N, 4) and targets (B*N, 4).
    """
    positive = matched.flatten()[:, None] > 0  # (B*N, 1)
    deltas = flatten_levels(bbox_preds, channels)
    deltas = torch.where(positive, deltas, torch.zeros_like(deltas))
    anchors = anchors.repeat(len(matched), 1)
    objects = gt_bboxes[(matched.flatten() - 1).clamp(min=0)]
    return deltas, anchors, torch.where(positive, objects.to(anchors), anchors)
