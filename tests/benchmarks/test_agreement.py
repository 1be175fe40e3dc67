"""What counts as the same result, and what does not."""

import math

import pytest
import torch
from mmengine.structures import InstanceData

from harness.agreement import (
    Disagreement,
    check_assigned,
    check_detections,
    check_gradients,
    check_numbers,
    check_tensors,
)


def detections(corners, scores=None, labels=None):
    bboxes = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
    return InstanceData(
        bboxes=bboxes,
        scores=torch.full((len(bboxes),), 0.5) if scores is None else scores,
        labels=torch.zeros(len(bboxes), dtype=torch.int64)
        if labels is None
        else labels,
    )


def test_tensors():
    ours = torch.tensor([1.0, 2.0])
    assert 'within' in check_tensors('loss', ours, ours * 1.0001, rtol=1e-3)
    with pytest.raises(
        Disagreement, match=r'loss: .*elements: 1 / 2 .* at index \(1,\)'
    ):
        check_tensors('loss', ours, torch.tensor([1.0, 3.0]), rtol=1e-3)
    with pytest.raises(Disagreement, match='shape'):
        check_tensors('loss', ours, ours[:1], rtol=1e-3)


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_what_is_not_finite_agrees_with_nothing(value):
    with pytest.raises(Disagreement):
        check_tensors('loss', torch.tensor(1.0), torch.tensor(value), rtol=1e-3)


def test_small_gradients_count_in_fp32():
    ours = [torch.tensor([1.0, 1e-6])]
    with pytest.raises(Disagreement, match='gradient of input 0'):
        check_gradients(ours, [torch.tensor([1.0, 2e-6])])
    check_gradients([g.bfloat16() for g in ours], [torch.tensor([1.0, 2e-6])])


def test_one_anchor_of_100_000_may_be_assigned_otherwise():
    ours = torch.zeros(200_000, dtype=torch.int64)
    theirs = ours.clone()
    assert check_assigned('objects', ours, theirs) == 'objects equal'
    theirs[:2] = 1
    assert 'but for 2 of 200000' in check_assigned('objects', ours, theirs)
    theirs[2] = 1
    with pytest.raises(Disagreement, match='anchor 0: 0, theirs 1'):
        check_assigned('objects', ours, theirs)


def test_detections_in_any_order():
    ours = detections([[0, 0, 10, 10], [20, 20, 30, 30]])
    theirs = detections([[20, 20, 30, 30.5], [0, 0, 10, 10]])
    assert check_detections([ours], [theirs]).startswith('2 matches of 2')
    empty = detections([])
    assert check_detections([empty], [empty]) == 'no detections on either side'


@pytest.mark.parametrize(
    'theirs',
    [
        detections([]),
        detections([[0, 0, 10, 13]]),
        detections([[0, 0, 10, 10]], scores=torch.tensor([0.6])),
        detections([[0, 0, 10, 10]], labels=torch.tensor([1])),
    ],
)
def test_other_detections(theirs):
    with pytest.raises(Disagreement, match='0 matches of 1 detections'):
        check_detections([detections([[0, 0, 10, 10]])], [theirs])


def test_numbers():
    assert check_numbers(dict(a=math.nan), dict(a=math.nan), 0) == '1 numbers equal'
    with pytest.raises(Disagreement, match=r'1\.1 but got 1\.0.*\[.a.\]'):
        check_numbers(dict(a=1.0), dict(a=1.1), 1e-3)
    with pytest.raises(Disagreement, match='keys'):
        check_numbers(dict(a=1.0), dict(b=1.0), 1e-3)
