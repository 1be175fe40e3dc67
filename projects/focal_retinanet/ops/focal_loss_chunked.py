"""The fused focal loss in plain PyTorch, for where no kernel can be compiled.

The maps are walked through in chunks that stay in the cache, with most
operations in place. An element is treated as y = 0; the few that are y = 1
have the sign of their logit turned round before, and their weight put right
after.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from focal_retinanet.ops.focal_loss_terms import FocalTerms

# Elements of a chunk. On a CPU the five buffers of a chunk fit the cores' L2
# caches; elsewhere a chunk only bounds the memory.
_CHUNK = {'cpu': 2**17}
_CHUNK_ELSEWHERE = 2**24


def focal_loss_sum(
    levels: Sequence[Tensor],
    grads: Sequence[Tensor] | None,
    terms: FocalTerms,
    scale: float,
) -> Tensor:
    """The loss times ``scale``, a scalar; writes its gradient into ``grads``.

    Args:
        levels: (B, A*K, H, W) each, contiguous or channels-last.
        grads: of the same layout, or None where no gradient is needed.
        terms: the rest of the loss.
        scale: factor of the loss and the gradient.
    """
    total = torch.zeros((), dtype=torch.float64, device=levels[0].device)
    first_anchor = 0
    for index, logits in enumerate(levels):
        if not logits.numel():
            continue
        anchors = logits[0].numel() // terms.num_classes
        of_level = slice(first_anchor, first_anchor + anchors)
        first_anchor += anchors
        level = _Level(logits, terms, of_level)
        flat_logits = _in_memory_order(logits)
        flat_grad = None if grads is None else _in_memory_order(grads[index])
        for start, weight, positives, positive_weight in level.chunks():
            of_chunk = slice(start, start + weight.numel())
            total += _add_chunk(
                flat_logits[of_chunk].view(weight.shape),
                None if flat_grad is None else flat_grad[of_chunk].view(weight.shape),
                weight,
                positives,
                positive_weight,
                terms,
                scale,
            )
    return (total * scale).to(terms.alpha_pos.dtype)


def _add_chunk(
    logits: Tensor,
    grad: Tensor | None,
    weight: Tensor,
    positives: Tensor,
    positive_weight: Tensor,
    terms: FocalTerms,
    scale: float,
) -> Tensor:
    """The loss of a chunk, a scalar; writes its gradient into ``grad``.

    The formula is that of ``csrc/focal_loss.cpp``, in u = -x_t.

    Args:
        logits: a chunk, in two dimensions, contiguous.
        grad: of the same shape, or None.
        weight: of each element if it has y = 0; of the same shape.
        positives: (P,) places of y = 1 in the flattened chunk.
        positive_weight: (P,) their weights.
        terms: the rest of the loss.
        scale: factor of the gradient.
    """
    half_epsilon = terms.label_smoothing / 2
    u = logits.to(weight.dtype, copy=True)
    u.view(-1)[positives] *= -1
    one_minus_p_t = torch.sigmoid(u)
    cross_entropy = F.logsigmoid(u.neg()).neg_()  # softplus(u)
    if terms.gamma == 2:
        modulating = one_minus_p_t * one_minus_p_t
    else:  # log(1 - p_t) = u - softplus(u)
        modulating = (u - cross_entropy).mul_(terms.gamma).exp_()
    if half_epsilon:
        cross_entropy.sub_(u, alpha=half_epsilon)

    of_positives = modulating.view(-1)[positives] * positive_weight
    modulating.mul_(weight).view(-1)[positives] = of_positives
    if grad is not None:
        slope = (1 - one_minus_p_t).mul_(cross_entropy).mul_(terms.gamma)
        slope.add_(one_minus_p_t)
        if half_epsilon:
            slope.sub_(half_epsilon)
        slope.mul_(modulating).mul_(scale)
        slope.view(-1)[positives] *= -1
        grad.copy_(slope)
    return modulating.mul_(cross_entropy).sum(dtype=torch.float64)


class _Level:
    """One level's logits, cut into chunks that lie together in memory."""

    def __init__(self, logits: Tensor, terms: FocalTerms, of_level: slice) -> None:
        _, channels, height, width = logits.shape
        self.is_planes = logits.is_contiguous()
        self.chunk = _CHUNK.get(logits.device.type, _CHUNK_ELSEWHERE)
        self.alpha_pos, self.alpha_neg = terms.alpha_pos, terms.alpha_neg
        self.num_classes = terms.num_classes
        self.cells = height * width
        self.anchors_per_cell = channels // self.num_classes

        targets = terms.targets[:, of_level]  # (B, n)
        self.anchor_weights = (targets != terms.ignore_index).to(self.alpha_pos.dtype)
        if terms.weights is not None:
            self.anchor_weights *= terms.weights[:, of_level]
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
        # Where the positives stand in memory, and what they weigh.
        self.places, order = place.sort()
        self.place_weights = weight[order]

    def chunks(self) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        """First element, weight of each as y = 0, and the positives in it."""
        weights = self._plane_weights() if self.is_planes else self._row_weights()
        start = 0
        for weight in weights:
            bounds = self.places.new_tensor([start, start + weight.numel()])
            low, high = torch.searchsorted(self.places, bounds).tolist()
            places = self.places[low:high] - start
            yield start, weight, places, self.place_weights[low:high]
            start += weight.numel()

    def _plane_weights(self) -> Iterator[Tensor]:
        """(classes, H*W): of maps (B, A, K, H*W), some classes of one (b, a)."""
        step = max(1, self.chunk // self.cells)
        for of_image in self.anchor_weights:
            for of_cells in of_image.view(self.cells, -1).t().contiguous():
                for alpha_neg in self.alpha_neg.split(step):
                    yield alpha_neg[:, None] * of_cells

    def _row_weights(self) -> Iterator[Tensor]:
        """(anchors, K): of maps (B, H*W*A, K), some anchors of one image."""
        step = max(1, self.chunk // self.num_classes)
        for of_image in self.anchor_weights:
            for of_anchors in of_image.split(step):
                yield of_anchors[:, None] * self.alpha_neg


def _in_memory_order(maps: Tensor) -> Tensor:
    """(B, C, H, W), contiguous or channels-last, as one row without a copy."""
    return (maps if maps.is_contiguous() else maps.permute(0, 2, 3, 1)).view(-1)
