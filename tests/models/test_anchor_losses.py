"""Losses of anchors, computed by chunks, against those of all logits at once."""

import pytest
import torch
from mmdet.registry import MODELS

from focal_retinanet.models import anchor_losses as module
from focal_retinanet.models.anchor_losses import anchor_losses
from focal_retinanet.models.level_maps import flatten_levels

A, K = 3, 5
SIZES = [(7, 5), (4, 3), (1, 2)]
N = A * sum(h * w for h, w in SIZES)
SIGMOIDS = [
    dict(type='focal_retinanet.FocalLoss', use_sigmoid=True),
    dict(type='focal_retinanet.HingeLoss', use_sigmoid=True),
    dict(type='FocalLoss', use_sigmoid=True),
    dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=2.0),
]
SOFTMAXES = [
    dict(type='focal_retinanet.FocalLoss', use_sigmoid=False, alpha=0.5),
    dict(type='CrossEntropyLoss', use_sigmoid=False),
]


def batch(channels, dtype=torch.float32):
    torch.manual_seed(0)
    maps = [torch.randn(2, A * channels, h, w).to(dtype) for h, w in SIZES]
    labels = torch.randint(-1, K + 1, (2, N))
    return maps, labels


def at_once(loss, maps, labels, channels):
    logits = flatten_levels(maps, channels)
    targets = torch.where(labels < 0, K, labels).flatten()
    losses = loss(logits, targets, reduction_override='none').reshape(len(logits), -1)
    return losses.sum(1).reshape(labels.shape).masked_fill(labels < 0, 0)


@pytest.mark.parametrize('loss_cls', SIGMOIDS + SOFTMAXES, ids=str)
@pytest.mark.parametrize('chunk', [1, 100, 2**20])
def test_chunks_do_not_change_the_losses(loss_cls, chunk, monkeypatch):
    monkeypatch.setattr(module, '_CHUNK', chunk)
    channels = K if loss_cls['use_sigmoid'] else K + 1
    maps, labels = batch(channels)
    loss = MODELS.build(loss_cls)
    losses = anchor_losses(loss, maps, labels, channels)
    torch.testing.assert_close(losses, at_once(loss, maps, labels, channels))
    assert (losses > 0).any(dim=1).all()


@pytest.mark.parametrize('loss_cls', SIGMOIDS, ids=str)
def test_layouts_dtypes_and_gradients(loss_cls):
    loss = MODELS.build(loss_cls)
    maps, labels = batch(K)
    expected = at_once(loss, maps, labels, K)
    strided = [m.contiguous(memory_format=torch.channels_last) for m in maps]
    torch.testing.assert_close(anchor_losses(loss, strided, labels, K), expected)
    leaves = [m.requires_grad_() for m in maps]
    losses = anchor_losses(loss, leaves, labels, K)
    assert not losses.requires_grad
    torch.testing.assert_close(losses, expected)

    halves = [m.detach().half() for m in maps]
    losses = anchor_losses(loss, halves, labels, K)
    assert losses.dtype == torch.float32
    exact = at_once(loss, [m.float() for m in halves], labels, K)
    torch.testing.assert_close(losses, exact)
    doubles = anchor_losses(loss, [m.double() for m in maps], labels, K)
    assert doubles.dtype == torch.float32
    torch.testing.assert_close(doubles, expected.detach())


def test_all_ignored_and_no_images():
    loss = MODELS.build(SIGMOIDS[0])
    maps, labels = batch(K)
    assert not anchor_losses(loss, maps, torch.full_like(labels, -1), K).any()
    none = anchor_losses(loss, [m[:0] for m in maps], labels[:0], K)
    assert none.shape == (0, N)


def test_loss_gets_at_most_one_chunk_at_a_time(monkeypatch):
    monkeypatch.setattr(module, '_CHUNK', 4 * A * K)
    seen = []

    class Loss(torch.nn.Module):
        def forward(self, logits, targets, reduction_override):
            seen.append(logits.numel())
            return logits

    maps, labels = batch(K)
    anchor_losses(Loss(), maps, labels, K)
    assert max(seen) == 4 * A * K
    assert sum(seen) == labels.numel() * K
