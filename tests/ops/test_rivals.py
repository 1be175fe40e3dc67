"""Hard example mining against a plain computation over all anchors."""

import numpy as np
import pytest
import torch
from mmcv.ops import nms

from focal_retinanet.ops.rivals import hard_negatives, hardest_after_nms


def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    overlap = width * height
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return overlap / (area - overlap)


def anchors(count, seed, positives):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (count, 2))
    bboxes = np.concatenate([corner, corner + rng.uniform(5, 40, (count, 2))], 1)
    kind = rng.permutation(count)
    losses = rng.permutation(count) / count
    is_positive = kind < positives
    is_ignored = kind >= count - count // 8
    return losses, bboxes, is_positive, is_ignored


def reference_ohem(losses, bboxes, positive, ignored, num, threshold, ratio):
    """Suppress all anchors that are not ignored, then choose the minibatch."""
    survivors = []
    for i in sorted(np.flatnonzero(~ignored), key=lambda i: -losses[i]):
        if all(iou(bboxes[i], bboxes[j]) <= threshold for j in survivors):
            survivors.append(i)
    if ratio is None:
        return set(survivors[:num])
    chosen = [i for i in survivors if positive[i]][: int(num / (1 + ratio))]
    limit = int(ratio * max(1, len(chosen)))
    return set(chosen + [i for i in survivors if not positive[i]][:limit])


@pytest.mark.parametrize('ratio', [None, 3])
@pytest.mark.parametrize('positives', [0, 2, 60])
@pytest.mark.parametrize('count, num', [(400, 8), (400, 16), (400, 512), (1, 8)])
@pytest.mark.parametrize('threshold', [0.5, 0.7])
def test_ohem(count, num, positives, ratio, threshold):
    for seed in range(3):
        data = anchors(count, seed, min(positives, count))
        losses, bboxes, positive, ignored = map(torch.tensor, data)
        kept = hardest_after_nms(
            losses.float(),
            bboxes.float(),
            positive,
            ignored,
            num,
            lambda boxes, scores: nms(boxes, scores, threshold)[1],
            ratio,
        )
        expected = reference_ohem(*data, num, threshold, ratio)
        assert set(kept.nonzero()[:, 0].tolist()) == expected


@pytest.mark.parametrize('positives', [0, 5, 60, 100])
def test_hard_negatives(positives):
    losses, _, positive, ignored = anchors(100, 0, positives)
    ignored &= ~positive
    kept = hard_negatives(
        torch.tensor(losses), torch.tensor(positive), torch.tensor(ignored), 3
    )
    negatives = np.flatnonzero(~positive & ~ignored)
    hardest = sorted(negatives, key=lambda i: -losses[i])[: 3 * positives]
    assert set(kept.nonzero()[:, 0].tolist()) == {*np.flatnonzero(positive), *hardest}


def test_all_ignored_gives_an_empty_minibatch():
    losses, bboxes, none = torch.rand(9), torch.rand(9, 4), torch.zeros(9).bool()
    kept = hardest_after_nms(losses, bboxes, none, ~none, 4, lambda b, s: s.argsort())
    assert not kept.any()
    assert not hard_negatives(losses, none, ~none, 3).any()
