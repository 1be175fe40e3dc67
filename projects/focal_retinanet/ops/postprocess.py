"""Candidate detections from the maps of the head (section 4.1, "Inference")."""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Candidates(NamedTuple):
    """Best pairs of anchor and class of a level, for each of B images.

    Attributes:
        logits: Logits (B, k), fp32, descending.
        labels: Classes (B, k), int64.
        anchors: Indices (B, k) of the level's anchors, int64.
        deltas: Box deltas (B, k, 4), fp32.
    """

    logits: Tensor
    labels: Tensor
    anchors: Tensor
    deltas: Tensor


def logit(score: float) -> float:
    """Return the logit whose sigmoid is ``score``; infinite outside (0, 1)."""
    if score <= 0:
        return -math.inf
    if score >= 1:
        return math.inf
    return math.log(score) - math.log1p(-score)


def select_candidates(
    logits: Tensor, deltas: Tensor, num_classes: int, limit: int
) -> Candidates:
    """Return the ``limit`` highest logits of a level, and their deltas.

    This needs no sigmoid and no sort of all logits. The best pairs belong to the
    ``limit`` anchors with the best best class, so one maximum over the classes leaves
    ``limit * K`` logits.

    Args:
        logits: Logits (B, A*K, H, W), contiguous or channels-last.
        deltas: Box deltas (B, A*D, H, W), with D = 4 for the usual coder.
        num_classes: Number of classes K.
        limit: Highest number of candidates per image; all if not positive.

    Returns:
        k = min(limit, anchors * K) candidates per image.
    """
    if logits.is_cuda:
        return _select_at_once(logits, deltas, num_classes, limit)
    batch, channels, height, width = logits.shape
    a = channels // num_classes
    cells = height * width
    if logits.is_cpu and logits.dtype == torch.float16:
        logits = logits.float()  # torch 2.1 has no topk of halves on a CPU
    maps = logits.reshape(batch, a, num_classes, cells)
    best = maps.amax(dim=2).transpose(1, 2).flatten(1)  # (B, cells * A)
    if limit <= 0:
        limit = best.size(1) * num_classes
    anchors = best.topk(min(limit, best.size(1)), sorted=False).indices  # (B, n)
    image = torch.arange(batch, device=logits.device)[:, None]
    rows = maps[image, anchors % a, :, anchors // a]  # (B, n, K)
    top = rows.flatten(1).topk(min(limit, rows[0].numel()))
    anchors = anchors.gather(1, top.indices // num_classes)  # (B, k)
    deltas = deltas.reshape(batch, a, deltas.size(1) // a, cells)
    boxes = deltas[image, anchors % a, :, anchors // a]
    return Candidates(
        logits=top.values.float(),
        labels=top.indices % num_classes,
        anchors=anchors,
        deltas=boxes.float(),
    )


def _select_at_once(
    logits: Tensor, deltas: Tensor, num_classes: int, limit: int
) -> Candidates:
    """Do the same in few launches, since each takes a GPU longer than its work."""
    batch, channels, height, width = logits.shape
    a = channels // num_classes
    # Channels-last maps are rows of classes; the others are planes.
    is_rows = not logits.is_contiguous()
    pairs = (logits.permute(0, 2, 3, 1) if is_rows else logits).flatten(1)
    top = pairs.topk(min(limit, pairs.size(1)) if limit > 0 else pairs.size(1))
    if is_rows:
        labels = top.indices % num_classes
        anchors = top.indices // num_classes
    else:
        plane = top.indices // (height * width)
        labels = plane % num_classes
        cell = top.indices % (height * width)
        anchors = torch.add(plane // num_classes, cell, alpha=a)
    rows = deltas.permute(0, 2, 3, 1).reshape(
        batch, height * width * a, deltas.size(1) // a
    )
    boxes = rows.gather(1, anchors[..., None].expand(-1, -1, rows.size(2)))
    return Candidates(top.values.float(), labels, anchors, boxes.float())
