"""The operator of exported models suppresses as mmcv does, on each of its ways."""

import pytest
import torch
from mmcv.ops import batched_nms as mmcv_batched_nms

from focal_retinanet.ops.nms import operator
from focal_retinanet.ops.nms.plain import grouped_nms_mask

NUM_CLASSES = 3


def crowded_boxes(batch, n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(batch, n, 4, generator=generator) * 60
    boxes[..., 2:] = boxes[..., :2] + 8 + boxes[..., 2:] / 4
    scores = torch.rand(batch, n, generator=generator) - 0.3
    labels = torch.randint(0, NUM_CLASSES, (batch, n), generator=generator)
    return boxes, scores.clamp(min=0), labels


@pytest.fixture(params=['kernel', 'plain'])
def way(request, monkeypatch):
    if request.param == 'plain':
        monkeypatch.setattr(operator.native, 'is_available', lambda boxes: False)


@pytest.mark.parametrize('n', [0, 1, 300])
def test_keeps_what_mmcv_keeps(way, n):
    boxes, scores, labels = crowded_boxes(2, n)
    keep = operator.batched_nms(boxes, scores, labels, 0.5, NUM_CLASSES)
    assert keep.shape == (2, n) and keep.dtype == torch.bool
    for b in range(2):
        candidate = (scores[b] > 0).nonzero().flatten()
        expected = torch.zeros(n, dtype=torch.bool)
        if len(candidate):
            _, kept = mmcv_batched_nms(
                boxes[b, candidate],
                scores[b, candidate],
                labels[b, candidate],
                dict(type='nms', iou_threshold=0.5),
            )
            expected[candidate[kept]] = True
        torch.testing.assert_close(keep[b], expected)


def test_chains_of_suppression_are_followed_to_their_end():
    """Each box overlaps the next one, so every second one stays."""
    x = torch.arange(0, 50, dtype=torch.float32) * 3
    boxes = torch.stack([x, 0 * x, x + 10, 0 * x + 10], dim=1)
    scores = torch.linspace(1, 0.1, 50)
    stays = grouped_nms_mask(boxes, scores, torch.zeros(50, dtype=torch.int64), 0.5)
    assert stays.tolist() == [i % 2 == 0 for i in range(50)]
