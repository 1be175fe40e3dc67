"""Candidates against a plain top-k over all anchors and classes."""

import math

import pytest
import torch

from focal_retinanet.ops import postprocess
from focal_retinanet.ops.postprocess import logit, select_candidates


@pytest.fixture(
    params=[select_candidates, postprocess._select_at_once], ids=['', 'as on a GPU']
)
def select(request):
    return request.param


def random_maps(num_classes, anchors=3, size=(5, 7), batch=2, box_dims=4):
    shape = (batch, anchors * num_classes, *size)
    # All logits differ, so there is one correct answer.
    count = math.prod(shape)
    logits = torch.randperm(count).view(shape) * (16 / max(count, 1)) - 8
    deltas = torch.randn(batch, anchors * box_dims, *size)
    return logits, deltas


def flat(maps, channels):
    """Map (B, A*channels, H, W) to (B, N, channels), in anchor order."""
    return maps.permute(0, 2, 3, 1).reshape(len(maps), -1, channels)


@pytest.mark.parametrize(
    'memory_format', [torch.contiguous_format, torch.channels_last]
)
@pytest.mark.parametrize('limit', [1, 10, 100, 10**6, 0, -1])
@pytest.mark.parametrize('num_classes', [1, 4, 80])
@pytest.mark.parametrize('box_dims', [4, 5])
def test_equals_plain_top_k(select, num_classes, limit, memory_format, box_dims):
    torch.manual_seed(0)
    logits, deltas = random_maps(num_classes, box_dims=box_dims)
    found = select(
        logits.to(memory_format=memory_format),
        deltas.to(memory_format=memory_format),
        num_classes,
        limit,
    )
    scores = flat(logits, num_classes).sigmoid()
    everything = scores[0].numel()
    k = everything if limit <= 0 else min(limit, everything)
    assert found.logits.shape == (2, k)
    for b in range(2):
        index = scores[b].flatten().topk(k).indices
        anchors, labels = index // num_classes, index % num_classes
        assert torch.equal(found.anchors[b], anchors)
        assert torch.equal(found.labels[b], labels)
        torch.testing.assert_close(
            found.logits[b].sigmoid(), scores[b, anchors, labels], rtol=1e-6, atol=0
        )
        assert torch.equal(found.deltas[b], flat(deltas, box_dims)[b, anchors])


@pytest.mark.parametrize('limit', [5, 60])
def test_tied_scores_are_taken_once_each(select, limit):
    torch.manual_seed(0)
    logits = torch.randint(0, 4, (2, 3 * 4, 5, 7)).float()
    found = select(logits, torch.randn(2, 12, 5, 7), 4, limit)
    rows = flat(logits, 4)
    for b in range(2):
        assert torch.equal(found.logits[b], rows[b].flatten().topk(limit).values)
        picked = rows[b, found.anchors[b], found.labels[b]]
        assert torch.equal(picked, found.logits[b])
        pairs = found.anchors[b] * 4 + found.labels[b]
        assert len(pairs.unique()) == limit


def test_best_scores_of_one_anchor(select):
    logits = torch.full((1, 2 * 4, 3, 3), -5.0)
    logits[0, 4:, 1, 2] = torch.tensor([1.0, 4.0, 2.0, 3.0])  # a = 1 of cell 5
    found = select(logits, torch.zeros(1, 8, 3, 3), 4, 4)
    assert found.labels.tolist() == [[1, 3, 2, 0]]
    assert found.anchors.tolist() == [[11] * 4]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_becomes_fp32(dtype):
    torch.manual_seed(0)
    logits, deltas = (maps.to(dtype) for maps in random_maps(4))
    found = select_candidates(logits, deltas, 4, 20)
    assert found.logits.dtype == found.deltas.dtype == torch.float32
    best = flat(logits, 4)[0].flatten().float().topk(20).values
    assert torch.equal(found.logits[0], best)


def test_level_without_cells(select):
    logits, deltas = random_maps(4, size=(0, 7))
    found = select(logits, deltas, 4, 20)
    assert found.logits.shape == (2, 0)
    assert found.deltas.shape == (2, 0, 4)


def test_logit():
    assert logit(0.5) == 0
    assert logit(0.05) == pytest.approx(-math.log(19))
    assert logit(1e-30) == pytest.approx(math.log(1e-30))
    assert logit(0) == logit(-1) == -math.inf
    assert logit(1) == logit(2.0) == math.inf
