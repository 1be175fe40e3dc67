"""The fused focal loss in plain PyTorch, where no kernel serves.

The maps are processed in chunks, mostly in place: chunks that fit the cache on a CPU,
and chunks that bound the memory elsewhere. The formula in u = -x_t, the same for
positives and negatives, is derived in the README of this folder.
"""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from focal_retinanet.ops.focal_loss.terms import FocalTerms, count_anchors

#: The forward pass computes the gradient too.
ONE_PASS = True

# Elements per chunk. On a CPU, the buffers of a chunk fit the L2 caches.
_CHUNK = {'cpu': 2**17}
_CHUNK_ELSEWHERE = 2**24


def is_available(levels: Sequence[Tensor]) -> bool:
    """Plain PyTorch takes all logits."""
    return True


def focal_loss_sum(
    levels: Sequence[Tensor],
    terms: FocalTerms,
    grads: Sequence[Tensor] | None = None,
    scale: float | Tensor = 1.0,
) -> Tensor:
    """Return the loss, and write its gradient to ``grads`` if given.

    Args:
        levels: Logits (B, A*K, H, W) of each level, contiguous or channels-last.
        terms: Targets, weights and parameters.
        grads: Tensors of the same layout, filled with ``scale`` times the gradient.
        scale: Factor of the loss and the gradient, a number or a scalar tensor.

    Returns:
        ``scale`` times the loss, a scalar, fp32 (fp64 for fp64 logits).
    """
    device, dtype = levels[0].device, terms.alpha_pos.dtype
    # Apple's GPUs have no fp64.
    wide = torch.float32 if device.type == 'mps' else torch.float64
    total = torch.zeros((), dtype=wide, device=device)
    chunks = _cpu_chunks if device.type == 'cpu' else _device_chunks
    first_anchor = 0
    for index, logits in enumerate(levels):
        if not logits.numel():
            continue
        anchors = count_anchors(logits, terms.num_classes)
        of_level = slice(first_anchor, first_anchor + anchors)
        first_anchor += anchors
        grad = None if grads is None else grads[index]
        for part in chunks(logits, grad, terms, of_level, scale):
            total += part
    return (total * scale).to(dtype)


def anchor_losses(levels: Sequence[Tensor], terms: FocalTerms) -> Tensor:
    """Return the loss (B, N) of each anchor, fp32 (fp64 for fp64 logits)."""
    dtype = terms.alpha_pos.dtype
    losses = torch.zeros(terms.targets.shape, dtype=dtype, device=levels[0].device)
    first_anchor = 0
    for logits in levels:
        anchors = count_anchors(logits, terms.num_classes)
        of_level = slice(first_anchor, first_anchor + anchors)
        first_anchor += anchors
        batch, channels, height, width = logits.shape
        shape = (batch, height * width, channels // terms.num_classes)
        by_cell = losses[:, of_level].view(shape).transpose(1, 2)  # (B, A, cells)
        for images, _, u, weight, _ in _parts(logits, terms, of_level):
            loss, _ = _weighted_loss(u, weight, terms, wants_slope=False)
            by_cell[images] += loss.sum(dim=2)
    return losses


def _add_up(
    u: Tensor, weight: Tensor, terms: FocalTerms, wants_slope: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the loss of a chunk, and its derivative by u.

    Args:
        u: -x_t, any shape.
        weight: a_t times the anchor's weight, of u's shape.
        terms: Parameters of the loss.
        wants_slope: Whether to compute the derivative.

    Returns:
        Sum of the losses, a scalar, and the weighted derivative, of u's shape or None.
    """
    loss, slope = _weighted_loss(u, weight, terms, wants_slope)
    if u.device.type == 'mps':
        return loss.sum(), slope
    return loss.sum(dtype=torch.float64), slope


def _weighted_loss(
    u: Tensor, weight: Tensor, terms: FocalTerms, wants_slope: bool
) -> tuple[Tensor, Tensor | None]:
    half_epsilon = terms.label_smoothing / 2
    one_minus_p_t = torch.sigmoid(u)
    cross_entropy = F.logsigmoid(u.neg()).neg_()  # softplus(u)
    if terms.gamma == 2:
        modulating = one_minus_p_t * one_minus_p_t
    elif terms.gamma == 0:
        modulating = torch.ones_like(u)
    else:
        modulating = F.logsigmoid(u).mul_(terms.gamma).exp_()
    # p_t * cross_entropy goes to 0, but infinity times 0 would be NaN.
    bounded = cross_entropy.clamp(max=88) if wants_slope and terms.gamma else None
    if half_epsilon:
        # Infinity times a modulating factor of 0, or minus infinity, would be NaN.
        smoothing = u.clamp(-1e30, 1e30).mul_(half_epsilon)
        cross_entropy.sub_(smoothing)
        if bounded is not None:
            bounded.sub_(smoothing)
    modulating.mul_(weight)
    slope = None
    if wants_slope and terms.gamma == 0:
        slope = one_minus_p_t.sub_(half_epsilon).mul_(modulating)
    elif wants_slope:
        slope = (1 - one_minus_p_t).mul_(bounded).mul_(terms.gamma)
        slope.add_(one_minus_p_t)
        if half_epsilon:
            slope.sub_(half_epsilon)
        slope.mul_(modulating)
    return modulating.mul_(cross_entropy), slope


def _cpu_chunks(
    logits: Tensor,
    grad: Tensor | None,
    terms: FocalTerms,
    of_level: slice,
    scale: float | Tensor,
) -> Iterator[Tensor]:
    """Yield the loss of each chunk of a level on a CPU, and fill ``grad``."""
    level = _Level(logits, terms, of_level)
    flat_logits = _in_memory_order(logits)
    flat_grad = None if grad is None else _in_memory_order(grad)
    for start, weight, positives in level.chunks():
        of_chunk = slice(start, start + weight.numel())
        u = flat_logits[of_chunk].view(weight.shape).to(weight.dtype, copy=True)
        u.view(-1)[positives] *= -1
        loss, slope = _add_up(u, weight, terms, grad is not None)
        if not math.isfinite(loss):
            # An infinite loss times a weight of 0 is NaN: repeat without it.
            u.masked_fill_(weight == 0, 0)
            loss, slope = _add_up(u, weight, terms, grad is not None)
        if slope is not None:
            slope.mul_(scale).view(-1)[positives] *= -1
            flat_grad[of_chunk].view(weight.shape).copy_(slope)
        yield loss


class _Level:
    """Chunks of a level's logits that are contiguous in memory."""

    def __init__(self, logits: Tensor, terms: FocalTerms, of_level: slice) -> None:
        _, channels, height, width = logits.shape
        self.is_planes = logits.is_contiguous()
        self.chunk = _CHUNK['cpu']
        self.alpha_pos, self.alpha_neg = terms.alpha_pos, terms.alpha_neg
        self.num_classes = terms.num_classes
        self.cells = height * width
        self.anchors_per_cell = channels // self.num_classes

        targets = terms.targets[:, of_level]  # (B, n)
        self.anchor_weights = _anchor_weights(terms, of_level)
        is_positive = (targets >= 0) & (targets < self.num_classes)
        is_positive &= targets != terms.ignore_index
        image, anchor = is_positive.nonzero(as_tuple=True)
        label = targets[image, anchor]
        weight = self.anchor_weights[image, anchor] * self.alpha_pos[label]
        if self.is_planes:
            cell, a = anchor // self.anchors_per_cell, anchor % self.anchors_per_cell
            plane = (image * self.anchors_per_cell + a) * self.num_classes + label
            place = plane * self.cells + cell
        else:
            place = (image * targets.size(1) + anchor) * self.num_classes + label
        # Positions of the positives in memory, and their weights.
        self.places, order = place.sort()
        self.place_weights = weight[order]

    def chunks(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield first element, weight of each element, and positions of positives."""
        weights = self._plane_weights() if self.is_planes else self._row_weights()
        start = 0
        for weight in weights:
            bounds = self.places.new_tensor([start, start + weight.numel()])
            low, high = torch.searchsorted(self.places, bounds).tolist()
            places = self.places[low:high] - start
            weight.view(-1)[places] = self.place_weights[low:high]
            yield start, weight, places
            start += weight.numel()

    def _plane_weights(self) -> Iterator[Tensor]:
        """Yield weights (classes, H*W) of some classes of one (b, a) of the maps."""
        step = max(1, self.chunk // self.cells)
        for of_image in self.anchor_weights:
            for of_cells in of_image.view(self.cells, -1).t().contiguous():
                for alpha_neg in self.alpha_neg.split(step):
                    yield alpha_neg[:, None] * of_cells

    def _row_weights(self) -> Iterator[Tensor]:
        """Yield weights (anchors, K) of some anchors of one image of the maps."""
        step = max(1, self.chunk // self.num_classes)
        for of_image in self.anchor_weights:
            for of_anchors in of_image.split(step):
                yield of_anchors[:, None] * self.alpha_neg


def _device_chunks(
    logits: Tensor,
    grad: Tensor | None,
    terms: FocalTerms,
    of_level: slice,
    scale: float | Tensor,
) -> Iterator[Tensor]:
    """Yield the loss of each chunk of a level, and fill ``grad``.

    Every element is compared with its anchor's label, because the host would have to
    wait for the positions of the positives.
    """
    grads = None if grad is None else _by_class(grad, terms.num_classes)
    for images, classes, u, weight, is_positive in _parts(logits, terms, of_level):
        loss, slope = _add_up(u, weight, terms, grad is not None)
        if slope is not None:
            slope = torch.where(is_positive, -slope, slope).mul_(scale)
            grads[images, :, classes].copy_(slope)
        yield loss


def _parts(
    logits: Tensor, terms: FocalTerms, of_level: slice
) -> Iterator[tuple[slice, slice, Tensor, Tensor, Tensor]]:
    """Yield a level in parts (images, A, classes, cells).

    Yields:
        Images, classes, u = -x_t, weight of each element, and mask of y = 1.
    """
    num_classes = terms.num_classes
    if not logits.numel():
        return
    maps = _by_class(logits, num_classes)  # (B, A, K, cells)
    batch, anchors_per_cell, _, cells = maps.shape
    limit = _CHUNK.get(logits.device.type, _CHUNK_ELSEWHERE)
    of_class = anchors_per_cell * cells  # elements in an image
    step = min(batch, max(1, limit // (of_class * num_classes)))
    class_step = max(1, limit // (step * of_class))
    shape = (batch, cells, anchors_per_cell)
    labels = terms.targets[:, of_level].reshape(shape).transpose(1, 2)
    weights = _anchor_weights(terms, of_level).reshape(shape).transpose(1, 2)
    for b in range(0, batch, step):
        images = slice(b, b + step)
        label, anchor_weight = labels[images, :, None], weights[images, :, None]
        for k in range(0, num_classes, class_step):
            classes = slice(k, min(k + class_step, num_classes))
            index = torch.arange(classes.start, classes.stop, device=logits.device)
            is_positive = label == index[:, None]
            weight = torch.where(
                is_positive,
                terms.alpha_pos[classes, None],
                terms.alpha_neg[classes, None],
            )
            weight = weight * anchor_weight
            x = maps[images, :, classes].to(weight.dtype)
            # An infinite loss times a weight of 0 would be NaN.
            u = torch.where(is_positive, -x, x).masked_fill_(weight == 0, 0)
            yield images, classes, u, weight, is_positive


def _anchor_weights(terms: FocalTerms, of_level: slice) -> Tensor:
    """Return the weights (B, n) of a level's anchors, 0 if ignored."""
    weights = (terms.targets[:, of_level] != terms.ignore_index).to(
        terms.alpha_pos.dtype
    )
    return weights if terms.weights is None else weights * terms.weights[:, of_level]


def _by_class(maps: Tensor, num_classes: int) -> Tensor:
    """View maps (B, A*K, H, W), contiguous or channels-last, as (B, A, K, H*W)."""
    batch, _, height, width = maps.shape
    if maps.is_contiguous():
        return maps.view(batch, -1, num_classes, height * width)
    rows = maps.permute(0, 2, 3, 1).view(batch, height * width, -1, num_classes)
    return rows.permute(0, 2, 3, 1)


def _in_memory_order(maps: Tensor) -> Tensor:
    """View maps (B, C, H, W), contiguous or channels-last, as one row."""
    return (maps if maps.is_contiguous() else maps.permute(0, 2, 3, 1)).view(-1)
