"""Whether two implementations gave the same, before either is timed."""

import math
from collections.abc import Mapping, Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from focal_retinanet.cli.errors import UserError

# Sums and products in another order, in fp32; half as many digits in halves.
RELATIVE_TOLERANCE = {
    torch.float32: 1e-3,
    torch.float16: 5e-2,
    torch.bfloat16: 5e-2,
}
# Of the largest gradient. In halves mmdet's loss of an easy negative is a small
# difference of large numbers (x - log sigmoid(x)), of which no digit is right.
_NEGLIGIBLE_GRADIENT = {
    torch.float32: 1e-9,
    torch.float16: 1e-3,
    torch.bfloat16: 1e-3,
}
# Rounding alone may take an IoU over a threshold, or break a tie.
_ASSIGNED_OTHERWISE = 1e-5
_MATCHED_DETECTIONS = 0.99


class Disagreement(UserError):
    """Ours and a peer gave different results, so that times mean nothing."""


def check_tensors(
    what: str, ours: Tensor, theirs: Tensor, rtol: float, atol: float = 0.0
) -> str:
    """Whether |ours - theirs| <= atol + rtol * |theirs| everywhere, all finite.

    Raises:
        Disagreement: names the element that is furthest off.
    """
    if ours.shape != theirs.shape:
        raise Disagreement(
            f'{what} has shape {tuple(ours.shape)}, theirs {tuple(theirs.shape)}'
        )
    ours, theirs = ours.detach().float(), theirs.detach().float()
    difference = (ours - theirs).abs()
    # nan is within no tolerance, and all is within that of infinity.
    bad = ~(difference <= atol + rtol * theirs.abs()) | theirs.isinf()
    if bad.any():
        worst = torch.where(bad, difference.nan_to_num(math.inf), -1).argmax()
        raise Disagreement(
            f'{what} is {ours.flatten()[worst]:.6g}, theirs '
            f'{theirs.flatten()[worst]:.6g} at element {int(worst)}; '
            f'{int(bad.sum())} of {bad.numel()} differ by more than {rtol:g}'
        )
    scale = theirs.abs().max().item() if theirs.numel() else 0.0
    largest = difference.max().item() if theirs.numel() else 0.0
    return f'{what} within {largest / scale if scale else largest:.1e}'


def check_gradients(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> str:
    """As :func:`check_tensors`, but for gradients that are next to nothing.

    Raises:
        Disagreement: names the element that is furthest off.
    """
    dtype = ours[0].dtype
    largest = max(gradient.abs().max().item() for gradient in theirs)
    for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        check_tensors(
            f'gradient of input {index}',
            mine,
            other,
            RELATIVE_TOLERANCE[dtype],
            largest * _NEGLIGIBLE_GRADIENT[dtype],
        )
    return f'gradients within {RELATIVE_TOLERANCE[dtype]:g}'


def check_assigned(what: str, ours: Tensor, theirs: Tensor) -> str:
    """Whether anchors were given to the same objects, but for rounding.

    Raises:
        Disagreement: names the first anchor that differs.
    """
    different = (ours != theirs).nonzero().flatten()
    if len(different) > _ASSIGNED_OTHERWISE * len(ours):
        first = int(different[0])
        raise Disagreement(
            f'{what} of {len(different)} of {len(ours)} anchors differ, first that of '
            f'anchor {first}: {int(ours[first])}, theirs {int(theirs[first])}'
        )
    but = f' but for {len(different)} of {len(ours)}' if len(different) else ''
    return f'{what} equal{but}'


def check_detections(
    ours: Sequence[InstanceData], theirs: Sequence[InstanceData]
) -> str:
    """Whether each side's detections are among the other's, 99 % of them.

    The same is one of the same class, all corners within a pixel, the score
    within 0.001. Rounding can turn a decision of NMS, so not all need a match.

    Raises:
        Disagreement: with the numbers of both.
    """
    if len(ours) != len(theirs):
        raise Disagreement(f'{len(ours)} images, theirs {len(theirs)}')
    found = expected = matched = 0
    for mine, other in zip(ours, theirs, strict=True):
        found, expected = found + len(mine), expected + len(other)
        corners = (mine.bboxes[:, None] - other.bboxes[None]).abs().amax(-1)
        same = corners <= 1  # (ours, theirs)
        same &= (mine.scores[:, None] - other.scores[None]).abs() <= 1e-3
        same &= mine.labels[:, None] == other.labels[None]
        matched += int(same.any(1).sum() + same.any(0).sum())
    text = f'{matched / 2:g} matches of {found} detections and their {expected}'
    if matched < _MATCHED_DETECTIONS * (found + expected):
        raise Disagreement(text)
    return text if found else 'no detections on either side'


def check_numbers(
    ours: Mapping[str, float], theirs: Mapping[str, float], rtol: float
) -> str:
    """Whether the same names have the same numbers.

    Raises:
        Disagreement: names the first number that differs.
    """
    if ours.keys() != theirs.keys():
        raise Disagreement(f'gives {sorted(ours)}, theirs {sorted(theirs)}')
    for key, value in ours.items():
        a, b = float(value), float(theirs[key])
        if math.isnan(a) and math.isnan(b):
            continue
        if not abs(a - b) <= rtol * abs(b):
            raise Disagreement(f'{key} is {a:.6g}, theirs {b:.6g}')
    return f'{len(ours)} numbers ' + (f'within {rtol:g}' if rtol else 'equal')
