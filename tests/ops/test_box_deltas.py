"""Deltas against mmdet's coder."""

import pytest
import torch
from mmdet.models.task_modules import DeltaXYWHBBoxCoder

from focal_retinanet.ops.box_deltas import decode_deltas, encode_deltas

MEANS, STDS = (0.1, -0.2, 0.0, 0.3), (0.1, 0.1, 0.2, 0.2)


def random_boxes(count):
    corner = torch.rand(count, 2) * 100
    return torch.cat([corner, corner + 1 + torch.rand(count, 2) * 60], dim=1)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.int64])
@pytest.mark.parametrize('options', [(), (MEANS, STDS)], ids=['paper', 'scaled'])
@pytest.mark.parametrize('count', [0, 50])
def test_encoding_is_mmdets(count, options, dtype):
    torch.manual_seed(0)
    anchors, bboxes = random_boxes(count).to(dtype), random_boxes(count).to(dtype)
    expected = DeltaXYWHBBoxCoder(*options).encode(anchors, bboxes)
    found = encode_deltas(anchors, bboxes, *options)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize('options', [(), (MEANS, STDS)], ids=['paper', 'scaled'])
@pytest.mark.parametrize('max_shape', [None, (80, 90), (80, 90, 3)])
@pytest.mark.parametrize('count', [0, 50])
def test_decoding_is_mmdets(count, max_shape, options):
    torch.manual_seed(0)
    anchors, deltas = random_boxes(count), torch.randn(count, 4) * 3
    coder = DeltaXYWHBBoxCoder(*options)
    expected = coder.decode(anchors, deltas, max_shape=max_shape)
    found = decode_deltas(anchors, deltas, *options, max_shape=max_shape)
    torch.testing.assert_close(found, expected)


def test_gradient_is_mmdets():
    torch.manual_seed(0)
    anchors, deltas = random_boxes(50), torch.randn(50, 4).mul(3).requires_grad_()
    weights = torch.rand(50, 4)
    expected = (DeltaXYWHBBoxCoder().decode(anchors, deltas) * weights).sum()
    found = (decode_deltas(anchors, deltas) * weights).sum()
    torch.testing.assert_close(
        torch.autograd.grad(found, deltas), torch.autograd.grad(expected, deltas)
    )


def test_decoding_is_the_inverse_of_encoding():
    torch.manual_seed(0)
    anchors, bboxes = random_boxes(50), random_boxes(50)
    deltas = encode_deltas(anchors, bboxes, MEANS, STDS)
    torch.testing.assert_close(decode_deltas(anchors, deltas, MEANS, STDS), bboxes)
