"""The fused focal loss on a GPU, in Triton.

One launch covers all levels. Forward only reads the logits, backward reads
them once more and writes the gradient: with the upstream gradient known by
then, it is rounded once, and an AMP gradient scaler works in fp16. (A gradient
written in the forward pass would have to be read and written again.) The sum
is taken in two stages of fixed order, so it is deterministic, and the host
never waits for the device.

With ``TRITON_INTERPRET=1`` the same kernels run on a CPU, for tests.
"""

import functools
import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from focal_retinanet.ops.focal_loss_terms import FocalTerms

# Elements of a program's tile, and classes that a program walks through where a
# class is a plane of its own.
_BLOCK = 1024
_CLASSES = 16


@triton.jit
def _focal(u, gamma, half_epsilon, GAMMA_IS_TWO: tl.constexpr, GRAD: tl.constexpr):
    """Loss of u = -x_t, or its slope; the formula of csrc/focal_loss.cpp."""
    e = tl.exp(-tl.abs(u))
    larger = 1.0 / (1.0 + e)  # sigmoid(|u|)
    smaller = e * larger
    # log(1 + e) = 2 artanh(z): tl.log would lose what e is small against 1.
    z = e / (2.0 + e)
    s = z * z
    series = 2.0 / 13
    series = series * s + 2.0 / 11
    series = series * s + 2.0 / 9
    series = series * s + 2.0 / 7
    series = series * s + 2.0 / 5
    series = series * s + 2.0 / 3
    log_1p_e = z * (series * s + 2.0)
    one_minus_p_t = tl.where(u > 0, larger, smaller)
    cross_entropy = tl.maximum(u, 0.0) + log_1p_e - half_epsilon * u
    if GAMMA_IS_TWO:
        modulating = one_minus_p_t * one_minus_p_t
    else:
        modulating = tl.exp(gamma * (tl.minimum(u, 0.0) - log_1p_e))
    if GRAD:
        p_t = tl.where(u > 0, smaller, larger)
        slope = gamma * p_t * cross_entropy + one_minus_p_t - half_epsilon
        return modulating * slope
    else:
        return modulating * cross_entropy


@triton.jit
def _planes_kernel(
    logits,
    grads,
    targets,
    weights,
    alpha_pos,
    alpha_neg,
    scale,
    sums,
    layout,
    num_anchors,
    anchors_per_cell,
    num_classes,
    ignore_index,
    gamma,
    half_epsilon,
    HAS_WEIGHTS: tl.constexpr,
    GAMMA_IS_TWO: tl.constexpr,
    GRAD: tl.constexpr,
    BLOCK: tl.constexpr,
    CLASSES: tl.constexpr,
    DIVISORS: tl.constexpr,
):
    """Maps (B, A*K, H, W): a program has a run of cells of one (b, a), some classes."""
    program = tl.program_id(0)
    for i in tl.static_range(len(logits)):
        first_program = tl.load(layout + 3 * i)
        if (program >= first_program) & (program < tl.load(layout + 3 * i + 3)):
            cells = tl.multiple_of(tl.load(layout + 3 * i + 1), DIVISORS[i])
            first_anchor = tl.load(layout + 3 * i + 2)
            tiles = tl.cdiv(cells, BLOCK)
            plane = (program - first_program) // tiles  # b * A + a
            tile = (program - first_program) % tiles
            cell = tile * BLOCK + tl.arange(0, BLOCK)
            inside = cell < cells
            of_image = (plane // anchors_per_cell).to(tl.int64) * num_anchors
            anchor = cell * anchors_per_cell + plane % anchors_per_cell + first_anchor
            y = tl.load(targets + of_image + anchor, mask=inside, other=ignore_index)
            y = y.to(tl.int32)
            weight = tl.where(y == ignore_index, 0.0, 1.0)
            if HAS_WEIGHTS:
                weight *= tl.load(weights + of_image + anchor, mask=inside, other=0.0)
            if GRAD:
                weight *= tl.load(scale)
            loss = tl.zeros([BLOCK], tl.float32)
            first_class = tl.program_id(1) * CLASSES
            last_class = tl.minimum(first_class + CLASSES, num_classes)
            for k in range(first_class, last_class):
                is_positive = y == k
                a_t = tl.where(
                    is_positive, tl.load(alpha_pos + k), tl.load(alpha_neg + k)
                )
                of_class = (plane.to(tl.int64) * num_classes + k) * cells
                x = tl.load(logits[i] + of_class + cell, mask=inside, other=0.0)
                x = x.to(tl.float32)
                u = tl.where(is_positive, -x, x)
                value = (
                    a_t * weight * _focal(u, gamma, half_epsilon, GAMMA_IS_TWO, GRAD)
                )
                if GRAD:
                    slope = tl.where(is_positive, -value, value)
                    slope = slope.to(grads[i].dtype.element_ty)
                    tl.store(grads[i] + of_class + cell, slope, mask=inside)
                else:
                    loss += value
            if not GRAD:
                at = program * tl.num_programs(1) + tl.program_id(1)
                tl.store(sums + at, tl.sum(loss))


@triton.jit
def _rows_kernel(
    logits,
    grads,
    targets,
    weights,
    alpha_pos,
    alpha_neg,
    scale,
    sums,
    layout,
    num_anchors,
    ignore_index,
    gamma,
    half_epsilon,
    NUM_CLASSES: tl.constexpr,
    HAS_WEIGHTS: tl.constexpr,
    GAMMA_IS_TWO: tl.constexpr,
    GRAD: tl.constexpr,
    BLOCK: tl.constexpr,
    DIVISORS: tl.constexpr,
):
    """Maps (B, H, W, A*K) in memory: a program has a run of one image's elements."""
    program = tl.program_id(0)
    for i in tl.static_range(len(logits)):
        first_program = tl.load(layout + 3 * i)
        if (program >= first_program) & (program < tl.load(layout + 3 * i + 3)):
            anchors = tl.multiple_of(tl.load(layout + 3 * i + 1), DIVISORS[i])
            first_anchor = tl.load(layout + 3 * i + 2)
            elements = anchors * NUM_CLASSES
            tiles = tl.cdiv(elements, BLOCK)
            image = (program - first_program) // tiles
            tile = (program - first_program) % tiles
            element = tile * BLOCK + tl.arange(0, BLOCK)
            inside = element < elements
            of_image = image.to(tl.int64) * num_anchors
            anchor = first_anchor + element // NUM_CLASSES
            k = element % NUM_CLASSES
            y = tl.load(targets + of_image + anchor, mask=inside, other=ignore_index)
            y = y.to(tl.int32)
            weight = tl.where(y == ignore_index, 0.0, 1.0)
            if HAS_WEIGHTS:
                weight *= tl.load(weights + of_image + anchor, mask=inside, other=0.0)
            is_positive = y == k
            weight *= tl.where(
                is_positive, tl.load(alpha_pos + k), tl.load(alpha_neg + k)
            )
            first = image.to(tl.int64) * elements
            x = tl.load(logits[i] + first + element, mask=inside, other=0.0)
            x = x.to(tl.float32)
            u = tl.where(is_positive, -x, x)
            value = weight * _focal(u, gamma, half_epsilon, GAMMA_IS_TWO, GRAD)
            if GRAD:
                slope = tl.load(scale) * tl.where(is_positive, -value, value)
                slope = slope.to(grads[i].dtype.element_ty)
                tl.store(grads[i] + first + element, slope, mask=inside)
            else:
                tl.store(sums + program, tl.sum(value))


class TritonFocalLoss(torch.autograd.Function):
    """The sum over levels, times ``scale``, a number or a scalar tensor."""

    @staticmethod
    def forward(ctx, terms: FocalTerms, scale: float | Tensor, *levels: Tensor):
        levels = _in_one_layout(levels)
        sums = _launch(terms, levels)
        ctx.terms, ctx.scale = terms, scale
        ctx.save_for_backward(*levels)
        return (sums.sum(dtype=torch.float64) * scale).float()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor):
        levels = ctx.saved_tensors
        grads = tuple(torch.empty_like(level) for level in levels)
        scale = (grad_output * ctx.scale).float()
        _launch(ctx.terms, levels, grads, scale)
        return None, None, *grads


def _in_one_layout(levels: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The levels, all contiguous or all channels-last."""
    channels_last = torch.channels_last
    if all(level.is_contiguous(memory_format=channels_last) for level in levels):
        return levels
    return tuple(level.contiguous() for level in levels)


def _launch(
    terms: FocalTerms,
    levels: tuple[Tensor, ...],
    grads: tuple[Tensor, ...] | None = None,
    scale: Tensor | None = None,
) -> Tensor | None:
    """Run the kernel: the loss's partial sums, or fills ``grads``."""
    num_classes = terms.num_classes
    rows = not all(level.is_contiguous() for level in levels)
    sizes = tuple(
        (level.size(1) // num_classes, level[0, 0].numel()) for level in levels
    )
    device = levels[0].device
    layout, programs = _layout(rows, len(levels[0]), num_classes, sizes, device)
    grid = (programs,) if rows else (programs, triton.cdiv(num_classes, _CLASSES))
    sums = None
    if grads is None:
        sums = torch.empty(grid, dtype=torch.float32, device=device)
    tensors = dict(
        logits=levels,
        grads=levels if grads is None else grads,
        targets=terms.targets,
        weights=terms.targets if terms.weights is None else terms.weights,
        alpha_pos=terms.alpha_pos,
        alpha_neg=terms.alpha_neg,
        scale=terms.alpha_pos if scale is None else scale,
        sums=terms.alpha_pos if sums is None else sums,
        layout=layout,
        num_anchors=terms.targets.size(1),
        ignore_index=terms.ignore_index,
        gamma=terms.gamma,
        half_epsilon=terms.label_smoothing / 2,
        HAS_WEIGHTS=terms.weights is not None,
        GAMMA_IS_TWO=terms.gamma == 2,
        GRAD=grads is not None,
        BLOCK=_BLOCK,
        # What divides a level's size lets its loads be vectors. P3 of an image
        # that is padded to a multiple of 32 has 16.
        DIVISORS=tuple(math.gcd(cells, 16) for _, cells in sizes),
        enable_fp_fusion=True,
    )
    with torch.cuda.device_of(levels[0]):  # Triton launches on the current device
        if rows:
            _rows_kernel[grid](NUM_CLASSES=num_classes, **tensors)
        else:
            _planes_kernel[grid](
                anchors_per_cell=sizes[0][0],
                num_classes=num_classes,
                CLASSES=_CLASSES,
                **tensors,
            )
    return sums


@functools.lru_cache(maxsize=256)
def _layout(
    rows: bool,
    batch: int,
    num_classes: int,
    sizes: tuple[tuple[int, int], ...],
    device: torch.device,
) -> tuple[Tensor, int]:
    """Where each level begins, kept for each set of feature sizes.

    Returns:
        - (L + 1, 3) int32: first program, cells (anchors for rows), first
          anchor.
        - the number of programs.
    """
    table, program, anchor = [], 0, 0
    for anchors_per_cell, cells in sizes:
        anchors = anchors_per_cell * cells
        if rows:
            table.append((program, anchors, anchor))
            program += batch * triton.cdiv(anchors * num_classes, _BLOCK)
        else:
            table.append((program, cells, anchor))
            program += batch * anchors_per_cell * triton.cdiv(cells, _BLOCK)
        anchor += anchors
    table.append((program, 0, anchor))
    return torch.tensor(table, dtype=torch.int32, device=device), program
