"""The fused focal loss on a GPU, in Triton.

Forward only reads the logits, backward reads them once more and writes the
gradient: with the upstream gradient known by then, it is rounded once, and an AMP
gradient scaler works in fp16. (A gradient written in the forward pass would have
to be read and written again.) The sum is taken in two stages of fixed order, so it
is deterministic, and the host never waits for the device.

Each level is a launch. Sizes are ordinary arguments, so that images of any size
share the same compiled kernels: forward and backward, each for maps whose cells
are a multiple of 16, which are read as vectors, and for the others.

With ``TRITON_INTERPRET=1`` the same kernels run on a CPU, for tests.
"""

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from focal_retinanet.ops.focal_loss.terms import FocalTerms, count_anchors

#: The gradient is computed in the backward pass, from the logits.
ONE_PASS = False

# Elements of a program's tile, and classes that a program walks through where a
# class is a plane of its own.
_BLOCK = 1024
_CLASSES = 16
# What divides a level's size lets its loads be vectors. P3 of an image that is
# padded to a multiple of 32 has it.
_VECTOR = 16


def is_available(levels: Sequence[Tensor]) -> bool:
    """Whether the kernels take these logits: fp32, bf16 or fp16, on an NVIDIA GPU."""
    logits = levels[0]
    return (
        logits.device.type == 'cuda'
        and torch.version.hip is None
        and logits.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and max(level.shape[1:].numel() for level in levels) < 2**31
    )


def focal_loss_sum(
    levels: Sequence[Tensor],
    terms: FocalTerms,
    grads: Sequence[Tensor] | None = None,
    scale: Tensor | None = None,
) -> Tensor | None:
    """The loss, a scalar; or, where ``grads`` is given, its gradient alone.

    Args:
        levels: (B, A*K, H, W) each, all contiguous or all channels-last.
        terms: the rest of the loss.
        grads: of the same layout; filled with ``scale`` times the gradient.
        scale: scalar, fp32, on the same device.

    Returns:
        Scalar, fp64, not scaled; None where ``grads`` is given.
    """
    rows = not all(level.is_contiguous() for level in levels)
    launches = _launches(levels, rows, terms.num_classes)
    if grads is not None:
        for launch, grad in zip(launches, grads, strict=True):
            launch(terms, grad=grad, scale=scale)
        return None
    programs = sum(math.prod(launch.grid) for launch in launches)
    sums = torch.empty(programs, dtype=torch.float32, device=levels[0].device)
    for launch in launches:
        launch(terms, sums=sums)
    return sums.sum(dtype=torch.float64)


def anchor_losses(levels: Sequence[Tensor], terms: FocalTerms) -> Tensor:
    """The loss of each anchor over its classes, (B, N) fp32.

    Args:
        levels: (B, A*K, H, W) each, all contiguous or all channels-last.
        terms: the rest of the loss.
    """
    # Each block of classes writes its own part, so that no two programs meet.
    parts = triton.cdiv(terms.num_classes, _CLASSES)
    losses = torch.zeros(
        (parts, *terms.targets.shape), dtype=torch.float32, device=levels[0].device
    )
    first_anchor = 0
    for level in levels:  # at most one is copied at a time
        _Launch(level.contiguous(), False, terms.num_classes, first_anchor, 0)(
            terms, losses=losses
        )
        first_anchor += count_anchors(level, terms.num_classes)
    return losses.sum(dim=0)


def _launches(
    levels: Sequence[Tensor], rows: bool, num_classes: int
) -> list['_Launch']:
    launches, first_anchor, first_program = [], 0, 0
    for level in levels:
        launch = _Launch(level, rows, num_classes, first_anchor, first_program)
        launches.append(launch)
        first_anchor += count_anchors(level, num_classes)
        first_program += math.prod(launch.grid)
    return launches


class _Launch:
    """One level's place among all anchors, and how its kernel is launched.

    Args:
        logits: (B, A*K, H, W).
        rows: whether it is channels-last.
        num_classes: K.
        first_anchor: index of its first anchor among those of all levels.
        first_program: index of its first partial sum.
    """

    def __init__(
        self,
        logits: Tensor,
        rows: bool,
        num_classes: int,
        first_anchor: int,
        first_program: int,
    ) -> None:
        self.logits = logits
        self.rows = rows
        self.first_anchor = first_anchor
        self.first_program = first_program
        batch, channels, height, width = logits.shape
        self.anchors_per_cell = channels // num_classes
        # What a program walks along: anchors of an image, or cells of a plane.
        self.size = height * width * (self.anchors_per_cell if rows else 1)
        if rows:
            tiles = triton.cdiv(self.size * num_classes, _BLOCK)
            self.grid = (batch * tiles,)
        else:
            tiles = triton.cdiv(self.size, _BLOCK)
            planes = batch * self.anchors_per_cell
            self.grid = (planes * tiles, triton.cdiv(num_classes, _CLASSES))

    def __call__(
        self,
        terms: FocalTerms,
        grad: Tensor | None = None,
        scale: Tensor | None = None,
        sums: Tensor | None = None,
        losses: Tensor | None = None,
    ) -> None:
        """Fill what is given: the gradient, partial sums, or losses of anchors."""
        if not self.logits.numel():
            return
        kernel = _rows_kernel if self.rows else _planes_kernel
        arguments = self._arguments(terms, grad, scale, sums, losses)
        with torch.cuda.device_of(self.logits):  # Triton launches on the current one
            kernel[self.grid](**arguments)

    def _arguments(
        self,
        terms: FocalTerms,
        grad: Tensor | None,
        scale: Tensor | None,
        sums: Tensor | None,
        losses: Tensor | None,
    ) -> dict:
        unit = _VECTOR if self.size % _VECTOR == 0 else 1
        arguments = dict(
            logits=self.logits,
            # Pointers that a variant does not read may be any.
            grads=self.logits if grad is None else grad,
            targets=terms.targets,
            weights=terms.alpha_pos if terms.weights is None else terms.weights,
            alpha_pos=terms.alpha_pos,
            alpha_neg=terms.alpha_neg,
            scale=terms.alpha_pos if scale is None else scale,
            sums=next((x for x in (sums, losses) if x is not None), terms.alpha_pos),
            size_in_units=self.size // unit,
            first_anchor=self.first_anchor,
            first_program=self.first_program,
            num_anchors=terms.targets.size(1),
            ignore_index=terms.ignore_index,
            gamma=terms.gamma,
            half_epsilon=terms.label_smoothing / 2,
            UNIT=unit,
            HAS_WEIGHTS=terms.weights is not None,
            IS_SMOOTHED=terms.label_smoothing != 0,
            # 0 and 2 need no exponential; -1 stands for all others.
            GAMMA=int(terms.gamma) if terms.gamma in (0, 2) else -1,
            GRAD=grad is not None,
            BLOCK=_BLOCK,
        )
        if self.rows:
            return dict(arguments, NUM_CLASSES=terms.num_classes)
        return dict(
            arguments,
            anchors_per_cell=self.anchors_per_cell,
            num_classes=terms.num_classes,
            ANCHORS=losses is not None,
            batch=len(self.logits),
            CLASSES=_CLASSES,
        )


def try_on(device: torch.device) -> None:
    """Compute a small loss and its gradient on the device.

    Raises:
        Exception: whatever keeps Triton from compiling, launching or computing.
    """
    logits = torch.zeros(1, 2, 1, 1, device=device)
    terms = FocalTerms(
        targets=torch.zeros(1, 1, dtype=torch.int64, device=device),
        weights=None,
        alpha_pos=torch.full((2,), 0.25, device=device),
        alpha_neg=torch.full((2,), 0.75, device=device),
        gamma=0.0,
        label_smoothing=0.0,
        ignore_index=-1,
    )
    grad = torch.empty_like(logits)
    focal_loss_sum([logits], terms, [grad], torch.ones((), device=device))
    loss = focal_loss_sum([logits], terms).item()
    found = (round(loss, 4), *grad.flatten().tolist())
    if found != (round(math.log(2), 4), -0.125, 0.375):
        raise RuntimeError(f'a kernel computed {found}')


@triton.jit
def _focal(
    u,
    gamma,
    half_epsilon,
    IS_SMOOTHED: tl.constexpr,
    GAMMA: tl.constexpr,
    GRAD: tl.constexpr,
):
    """Loss of u = -x_t, or its slope; the formula of native.cpp."""
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
    cross_entropy = tl.where(u > 0, u, 0.0) + log_1p_e
    # p_t * cross_entropy goes to 0, where infinity times 0 would be NaN.
    bounded = tl.where(u > 88.0, 88.0, cross_entropy)
    if IS_SMOOTHED:
        cross_entropy -= half_epsilon * u
        bounded -= half_epsilon * u
    value = tl.full(u.shape, 1.0, tl.float32)
    if GAMMA == 2:
        value = one_minus_p_t * one_minus_p_t
    if GAMMA == -1:
        value = tl.exp(gamma * (tl.where(u > 0, 0.0, u) - log_1p_e))
    if GRAD:
        p_t = tl.where(u > 0, smaller, larger)
        value *= gamma * p_t * bounded + one_minus_p_t - half_epsilon
    else:
        value *= cross_entropy
    return value


# Sizes are not specialised on (Triton does on 1 and on multiples of 16), or
# training at many scales would compile dozens of variants.
@triton.jit(
    do_not_specialize=[
        'size_in_units',
        'first_anchor',
        'first_program',
        'num_anchors',
        'anchors_per_cell',
        'num_classes',
        'batch',
        'ignore_index',
    ]
)
def _planes_kernel(
    logits,
    grads,
    targets,
    weights,
    alpha_pos,
    alpha_neg,
    scale,
    sums,
    size_in_units,
    first_anchor,
    first_program,
    num_anchors,
    anchors_per_cell,
    num_classes,
    batch,
    ignore_index,
    gamma,
    half_epsilon,
    UNIT: tl.constexpr,
    HAS_WEIGHTS: tl.constexpr,
    IS_SMOOTHED: tl.constexpr,
    GAMMA: tl.constexpr,
    GRAD: tl.constexpr,
    ANCHORS: tl.constexpr,
    BLOCK: tl.constexpr,
    CLASSES: tl.constexpr,
):
    """A map (B, A*K, H, W): a run of cells of one (b, a), some classes."""
    cells = size_in_units * UNIT
    tiles = tl.cdiv(cells, BLOCK)
    plane = tl.program_id(0) // tiles  # b * A + a
    cell = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    inside = cell < cells
    of_image = (plane // anchors_per_cell).to(tl.int64) * num_anchors
    anchor = cell * anchors_per_cell + plane % anchors_per_cell + first_anchor
    y = tl.load(targets + of_image + anchor, mask=inside, other=ignore_index)
    y = y.to(tl.int32)
    weight = tl.where(y == ignore_index, 0.0, 1.0)
    if HAS_WEIGHTS:
        weight *= tl.load(weights + of_image + anchor, mask=inside, other=0.0)
    counts = weight != 0  # an infinite loss times 0 would be NaN
    if GRAD:
        weight *= tl.load(scale)
    loss = tl.zeros([BLOCK], tl.float32)
    first_class = tl.program_id(1) * CLASSES
    last_class = tl.minimum(first_class + CLASSES, num_classes)
    for k in range(first_class, last_class):
        is_positive = y == k
        a_t = tl.where(is_positive, tl.load(alpha_pos + k), tl.load(alpha_neg + k))
        of_class = (plane.to(tl.int64) * num_classes + k) * cells
        x = tl.load(logits + of_class + cell, mask=inside, other=0.0).to(tl.float32)
        u = tl.where(is_positive, -x, x)
        value = _focal(u, gamma, half_epsilon, IS_SMOOTHED, GAMMA, GRAD)
        value = tl.where(counts, a_t * weight * value, 0.0)
        if GRAD:
            slope = tl.where(is_positive, -value, value)
            slope = slope.to(grads.dtype.element_ty)
            tl.store(grads + of_class + cell, slope, mask=inside)
        else:
            loss += value
    if ANCHORS:
        part = tl.program_id(1).to(tl.int64) * batch * num_anchors
        tl.store(sums + part + of_image + anchor, loss, mask=inside)
    elif not GRAD:
        program = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
        tl.store(sums + first_program + program, tl.sum(loss, axis=0))


@triton.jit(
    do_not_specialize=[
        'size_in_units',
        'first_anchor',
        'first_program',
        'num_anchors',
        'ignore_index',
    ]
)
def _rows_kernel(
    logits,
    grads,
    targets,
    weights,
    alpha_pos,
    alpha_neg,
    scale,
    sums,
    size_in_units,
    first_anchor,
    first_program,
    num_anchors,
    ignore_index,
    gamma,
    half_epsilon,
    NUM_CLASSES: tl.constexpr,
    UNIT: tl.constexpr,
    HAS_WEIGHTS: tl.constexpr,
    IS_SMOOTHED: tl.constexpr,
    GAMMA: tl.constexpr,
    GRAD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A map (B, H, W, A*K) in memory: a run of one image's elements."""
    elements = size_in_units * UNIT * NUM_CLASSES
    tiles = tl.cdiv(elements, BLOCK)
    image = tl.program_id(0) // tiles
    element = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    inside = element < elements
    of_image = image.to(tl.int64) * num_anchors
    anchor = first_anchor + element // NUM_CLASSES
    k = element % NUM_CLASSES
    y = tl.load(targets + of_image + anchor, mask=inside, other=ignore_index)
    y = y.to(tl.int32)
    weight = tl.where(y == ignore_index, 0.0, 1.0)
    if HAS_WEIGHTS:
        weight *= tl.load(weights + of_image + anchor, mask=inside, other=0.0)
    counts = weight != 0  # an infinite loss times 0 would be NaN
    is_positive = y == k
    weight *= tl.where(is_positive, tl.load(alpha_pos + k), tl.load(alpha_neg + k))
    first = image.to(tl.int64) * elements
    x = tl.load(logits + first + element, mask=inside, other=0.0).to(tl.float32)
    u = tl.where(is_positive, -x, x)
    value = _focal(u, gamma, half_epsilon, IS_SMOOTHED, GAMMA, GRAD)
    value = tl.where(counts, weight * value, 0.0)
    if GRAD:
        slope = tl.load(scale) * tl.where(is_positive, -value, value)
        slope = slope.to(grads.dtype.element_ty)
        tl.store(grads + first + element, slope, mask=inside)
    else:
        tl.store(sums + first_program + tl.program_id(0), tl.sum(value, axis=0))
