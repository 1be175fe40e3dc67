"""Checks that two implementations give the same, before either is timed."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from focal_retinanet.cli.errors import UserError

# Sums and products in another order, in fp32; half as many digits in halves.
RELATIVE_TOLERANCE = {torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 5e-2}
# As a share of the largest gradient. In halves mmdet's loss of an easy negative is
# a small difference of large numbers (x - log sigmoid(x)), with no digit right.
_NEGLIGIBLE_GRADIENT = {torch.float32: 1e-9, torch.float16: 1e-3, torch.bfloat16: 1e-3}
# Rounding alone may take an IoU over a threshold, or break a tie.
_ASSIGNED_OTHERWISE = 1e-5
_MATCHED_DETECTIONS = 0.99


class Disagreement(UserError):
    """Ours and a peer gave different results, so that times mean nothing."""


def check_tensors(
    what: str, ours: Tensor, theirs: Tensor, rtol: float, atol: float = 0.0
) -> str:
    """Check that |ours - theirs| <= atol + rtol * |theirs| everywhere, all finite.

    Raises:
        Disagreement: They differ; the message has the largest difference.
    """
    ours, theirs = ours.detach().float(), theirs.detach().float()
    _assert_close(what, ours, theirs, rtol=rtol, atol=atol)
    if not theirs.isfinite().all():
        raise Disagreement(f'{what}: not all values are finite')
    if not theirs.numel():
        return f'{what} empty'
    largest, scale = (ours - theirs).abs().max(), theirs.abs().max()
    return f'{what} within {(largest / scale if scale else largest).item():.1e}'


def check_gradients(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> str:
    """Check gradients like :func:`check_tensors`, but not the negligible ones.

    Raises:
        Disagreement: They differ; the message names the input.
    """
    dtype = ours[0].dtype
    rtol = RELATIVE_TOLERANCE[dtype]
    largest = max(gradient.abs().max().item() for gradient in theirs)
    atol = largest * _NEGLIGIBLE_GRADIENT[dtype]
    for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        check_tensors(f'gradient of input {index}', mine, other, rtol, atol)
    return f'gradients within {rtol:g}'


def check_assigned(what: str, ours: Tensor, theirs: Tensor) -> str:
    """Check that anchors have the same objects, but for rounding.

    Raises:
        Disagreement: More than one anchor in 100,000 differs; the message names
            the first.
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
    """Check that 99 % of each side's detections are among the other's.

    Two detections are the same if they have the same class, all corners within a
    pixel and scores within 0.001. Rounding can turn a decision of NMS, so that not
    all need a match.

    Raises:
        Disagreement: Fewer match; the message has the numbers of both.
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
    """Check that the same names have the same numbers; nan equals nan.

    Raises:
        Disagreement: They differ; the message has the name and both numbers.
    """
    ours, theirs = ({k: float(v) for k, v in side.items()} for side in (ours, theirs))
    _assert_close('result', ours, theirs, rtol=rtol, atol=0.0, equal_nan=True)
    return f'{len(ours)} numbers ' + (f'within {rtol:g}' if rtol else 'equal')


def _assert_close(what: str, ours: Any, theirs: Any, **tolerance) -> None:
    try:
        torch.testing.assert_close(ours, theirs, **tolerance)
    except AssertionError as error:
        raise Disagreement(f'{what}: {" ".join(str(error).split())}') from error
