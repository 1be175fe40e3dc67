"""The maps that a head's convolutions leave, read in the order of the anchors."""

import torch
from torch import Tensor


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
