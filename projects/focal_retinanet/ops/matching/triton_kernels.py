"""The Triton kernels of :mod:`focal_retinanet.ops.matching.triton`.

Each program has a block of anchors of one image and loops over the image's objects. It
skips objects outside the box around the block's anchors, because their IoU is 0.

Both kernels compute the same IoU as ops/matching/plain.py to the last bit: products and
sums are not contracted (``enable_fp_fusion=False``), and the division is rounded to
nearest. The IoU is stored as the integer of its bits. For non-negative floats, the order
of the bits is the order of the numbers, and NaN, which wins in ``torch.max``, comes last.
"""

import triton
import triton.language as tl

# Keys of an object's best anchor hold this minus the anchor, so the first one wins.
_LAST_ANCHOR = tl.constexpr(2**31 - 1)


@triton.jit
def _load_anchors(anchors, anchor, inside):
    x1 = tl.load(anchors + anchor * 4, mask=inside, other=0.0)
    y1 = tl.load(anchors + anchor * 4 + 1, mask=inside, other=0.0)
    x2 = tl.load(anchors + anchor * 4 + 2, mask=inside, other=0.0)
    y2 = tl.load(anchors + anchor * 4 + 3, mask=inside, other=0.0)
    return x1, y1, x2, y2


@triton.jit
def _box_around(x1, y1, x2, y2, inside):
    inf = float('inf')
    left = tl.min(tl.where(inside, x1, inf), axis=0)
    top = tl.min(tl.where(inside, y1, inf), axis=0)
    right = tl.max(tl.where(inside, x2, -inf), axis=0)
    bottom = tl.max(tl.where(inside, y2, -inf), axis=0)
    return left, top, right, bottom


@triton.jit
def _is_apart(gx1, gy1, gx2, gy2, left, top, right, bottom):
    return (gx1 >= right) | (gx2 <= left) | (gy1 >= bottom) | (gy2 <= top)


@triton.jit
def _load_object(gts, j):
    x1 = tl.load(gts + j * 4)
    y1 = tl.load(gts + j * 4 + 1)
    x2 = tl.load(gts + j * 4 + 2)
    y2 = tl.load(gts + j * 4 + 3)
    return x1, y1, x2, y2


@triton.jit
def _iou_bits(gx1, gy1, gx2, gy2, x1, y1, x2, y2, area):
    gt_area = (gx2 - gx1) * (gy2 - gy1)
    width = tl.maximum(tl.minimum(gx2, x2) - tl.maximum(gx1, x1), 0.0)
    height = tl.maximum(tl.minimum(gy2, y2) - tl.maximum(gy1, y1), 0.0)
    intersection = width * height
    union = gt_area + area - intersection
    union = tl.where(union < 1e-6, 1e-6, union)  # keeps NaN
    # Without the sign, because -0.0 and negative NaN would come first.
    return tl.abs(tl.div_rn(intersection, union)).to(tl.int32, bitcast=True)


@triton.jit(do_not_specialize=['anchors', 'excluded', 'num_anchors'])
def match_by_threshold(
    anchors,
    num_anchors,
    gts,
    gt_start,
    excluded,
    pos_iou_thr,
    neg_low,
    neg_high,
    matched,
    max_ious,
    best_of_gt,
    HAS_EXCLUDED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write ``matched`` and ``max_ious`` (B, N), and raise the keys ``best_of_gt`` (M,).

    The final key of an object is the largest over all anchors. Its upper half has the
    bits of the IoU, its lower half the distance of the anchor from the last one.
    """
    image = tl.program_id(1)
    anchor = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = anchor < num_anchors
    x1, y1, x2, y2 = _load_anchors(anchors, anchor, inside)
    left, top, right, bottom = _box_around(x1, y1, x2, y2, inside)
    area = (x2 - x1) * (y2 - y1)
    # The IoU of boxes that are not finite may be NaN, even if they do not touch.
    is_finite = tl.max(tl.where(tl.abs(area) < float('inf'), 0, 1), axis=0) == 0

    at = image.to(tl.int64) * num_anchors + anchor
    takes_part = inside
    if HAS_EXCLUDED:
        takes_part &= tl.load(excluded + at, mask=inside, other=0) == 0

    first_gt = tl.load(gt_start + image)
    stop_gt = tl.load(gt_start + image + 1)
    max_bits = tl.zeros([BLOCK], tl.int32)
    best_gt = tl.zeros([BLOCK], tl.int32) + first_gt
    for j in range(first_gt, stop_gt):
        gx1, gy1, gx2, gy2 = _load_object(gts, j)
        is_apart = _is_apart(gx1, gy1, gx2, gy2, left, top, right, bottom)
        gt_is_finite = tl.abs((gx2 - gx1) * (gy2 - gy1)) < float('inf')
        if not (is_apart & is_finite & gt_is_finite):
            bits = _iou_bits(gx1, gy1, gx2, gy2, x1, y1, x2, y2, area)
            bits = tl.where(takes_part, bits, 0)
            best_gt = tl.where(bits > max_bits, j, best_gt)  # first object wins ties
            max_bits = tl.maximum(max_bits, bits)
            key = (bits.to(tl.int64) << 32) - anchor + _LAST_ANCHOR
            tl.atomic_max(best_of_gt + j, tl.max(key, axis=0))

    max_iou = max_bits.to(tl.float32, bitcast=True)
    max_iou = tl.where(takes_part, max_iou, -1.0)
    is_background = (max_iou >= neg_low) & (max_iou < neg_high)
    result = tl.where(is_background, 0, -1)
    result = tl.where(max_iou >= pos_iou_thr, best_gt + 1, result)
    if first_gt == stop_gt:  # an image without objects is background
        result = tl.where(takes_part, 0, -1)
    tl.store(matched + at, result.to(tl.int64), mask=inside)
    tl.store(max_ious + at, max_iou, mask=inside)


@triton.jit(do_not_specialize=['anchors', 'excluded', 'num_anchors'])
def match_low_quality(
    anchors,
    num_anchors,
    gts,
    gt_start,
    excluded,
    min_pos_iou,
    matched,
    best_of_gt,
    ASSIGN_ALL: tl.constexpr,
    HAS_EXCLUDED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Overwrite ``matched`` of each object's best anchors; the later object wins."""
    image = tl.program_id(1)
    anchor = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = anchor < num_anchors
    x1, y1, x2, y2 = _load_anchors(anchors, anchor, inside)
    left, top, right, bottom = _box_around(x1, y1, x2, y2, inside)
    area = (x2 - x1) * (y2 - y1)

    at = image.to(tl.int64) * num_anchors + anchor
    takes_part = inside
    if HAS_EXCLUDED:
        takes_part &= tl.load(excluded + at, mask=inside, other=0) == 0

    claimed_by = tl.full([BLOCK], -1, tl.int32)
    first_gt = tl.load(gt_start + image)
    stop_gt = tl.load(gt_start + image + 1)
    for j in range(first_gt, stop_gt):
        gx1, gy1, gx2, gy2 = _load_object(gts, j)
        is_apart = _is_apart(gx1, gy1, gx2, gy2, left, top, right, bottom)
        key = tl.load(best_of_gt + j)
        best_bits = (key >> 32).to(tl.int32)
        best_iou = best_bits.to(tl.float32, bitcast=True)
        # An object without any overlap must not claim all anchors.
        if (best_iou > 0) & (best_iou >= min_pos_iou) & ~is_apart:
            if ASSIGN_ALL:
                bits = _iou_bits(gx1, gy1, gx2, gy2, x1, y1, x2, y2, area)
                is_best = (bits == best_bits) & takes_part
            else:
                from_last = (key & _LAST_ANCHOR).to(tl.int32)
                is_best = anchor + from_last == _LAST_ANCHOR
            claimed_by = tl.where(is_best, j, claimed_by)
    is_claimed = inside & (claimed_by >= 0)
    tl.store(matched + at, claimed_by.to(tl.int64) + 1, mask=is_claimed)
