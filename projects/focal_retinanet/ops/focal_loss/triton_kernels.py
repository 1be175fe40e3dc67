"""The Triton kernels of :mod:`focal_retinanet.ops.focal_loss.triton`.

One kernel reads contiguous maps, one channels-last maps. Constants at compile time
select the loss or its gradient.
"""

import triton
import triton.language as tl


@triton.jit
def _focal(
    u,
    gamma,
    half_epsilon,
    IS_SMOOTHED: tl.constexpr,
    GAMMA: tl.constexpr,
    GRAD: tl.constexpr,
):
    """Loss of u = -x_t, or its derivative; the README of this folder derives them."""
    e = tl.exp(-tl.abs(u))
    larger = 1.0 / (1.0 + e)  # sigmoid(|u|)
    smaller = e * larger
    # log(1 + e) = 2 artanh(z); tl.log would lose the digits of a small e.
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
    # p_t * cross_entropy goes to 0, but infinity times 0 would be NaN.
    bounded = tl.where(u > 88.0, 88.0, cross_entropy)
    if IS_SMOOTHED:
        # Infinity times a modulating factor of 0, or minus infinity, would be NaN.
        finite = tl.where(u < -1e30, -1e30, tl.where(u > 1e30, 1e30, u))
        smoothing = half_epsilon * finite
        cross_entropy -= smoothing
        bounded -= smoothing
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


# Sizes are not specialised (Triton specialises 1 and multiples of 16), because
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
def planes_kernel(
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
    """Process some cells and some classes of one (b, a) of maps (B, A*K, H, W)."""
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
        value = tl.where(counts & (a_t != 0), a_t * weight * value, 0.0)
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
def rows_kernel(
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
    """Process some elements of one image of maps that are (B, H, W, A*K) in memory."""
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
    is_positive = y == k
    weight *= tl.where(is_positive, tl.load(alpha_pos + k), tl.load(alpha_neg + k))
    counts = weight != 0  # an infinite loss times 0 would be NaN
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
