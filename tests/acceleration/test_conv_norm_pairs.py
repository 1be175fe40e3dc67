"""Pairs of a convolution and a batch norm are found in a module's graph, and folded."""

import copy
import logging

import pytest
import torch
from mmcv.cnn import ConvModule
from mmdet.models.dense_heads import RetinaSepBNHead
from torch import nn
from torch.nn import functional

from focal_retinanet.acceleration.conv_norm_pairs import find_conv_norm_pairs
from focal_retinanet.acceleration.fast_conv import fold_batch_norm

_BN = dict(type='BN')


def _conv(kernel=3):
    return nn.Conv2d(8, 8, kernel, padding=kernel // 2, bias=False)


def _assert_same(ours, reference):
    torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-5)


class _Residual(nn.Module):
    """conv, norm, relu, conv, norm, and a shortcut, under unusual names."""

    def __init__(self):
        super().__init__()
        self.b, self.n2 = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.a, self.c = _conv(), _conv()
        self.convs = nn.ModuleList([_conv(1), nn.BatchNorm2d(8)])

    def forward(self, x):
        y = functional.relu(self.b(self.a(x)))
        y = self.n2(self.c(y)) + x
        return self.convs[1](self.convs[0](y))


class _PreActivation(nn.Module):
    """bn1, relu, conv1, bn2, relu, conv2."""

    def __init__(self):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.conv1, self.conv2 = _conv(), _conv()

    def forward(self, x):
        y = self.conv1(functional.relu(self.bn1(x)))
        return x + self.conv2(functional.relu(self.bn2(y)))


class _PreActivationAlone(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(8), _conv()

    def forward(self, x):
        return self.conv1(self.bn1(x).relu())


class _OutputUsedTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = _conv(), nn.BatchNorm2d(8)

    def forward(self, x):
        y = self.conv1(x)
        return self.bn1(y) + y.sigmoid()


class _NormUsedTwice(_OutputUsedTwice):
    def forward(self, x):
        return self.bn1(self.conv1(x)) + self.bn1(x)


class _ConvUsedTwice(_OutputUsedTwice):
    def forward(self, x):
        return self.bn1(self.conv1(x)) + self.conv1(x * 2)


class _OneConvForTwoNorms(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = _conv()
        self.bn1, self.bn2 = nn.BatchNorm2d(8), nn.BatchNorm2d(8)

    def forward(self, x):
        return self.bn1(self.conv1(x)), self.bn2(self.conv1(x * 2))


class _DependsOnTheMode(_OutputUsedTwice):
    def forward(self, x):
        y = self.conv1(x)
        return self.bn1(y) if self.training else y


class _ConvInAChildToo(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = _conv(), nn.BatchNorm2d(8)
        self.child = nn.Sequential(self.conv1, nn.ReLU())

    def forward(self, x):
        return self.bn1(self.conv1(x)) + self.child(x)


class _Untraceable(_OutputUsedTwice):
    def forward(self, x):
        if x.sum() > 1e9:
            return x
        return self.bn1(self.conv1(x))


class _KeepsWhatItSaw(_OutputUsedTwice):
    seen = None

    def forward(self, x):
        self.seen = x
        return self.bn1(self.conv1(x))


@pytest.mark.parametrize(
    ('cls', 'pairs'),
    [
        (_Residual, [('a', 'b'), ('c', 'n2'), ('convs.0', 'convs.1')]),
        (_PreActivation, [('conv1', 'bn2')]),
        (_PreActivationAlone, []),
        (_OutputUsedTwice, []),
        (_NormUsedTwice, []),
        (_ConvUsedTwice, []),
        (_OneConvForTwoNorms, []),
        (_DependsOnTheMode, []),
        (_ConvInAChildToo, []),
        (_Untraceable, []),
        (_KeepsWhatItSaw, [('conv1', 'bn1')]),
    ],
)
def test_pairs_of_the_graph(cls, pairs, folded, freeze):
    model = freeze(cls())
    state = dict(model.__dict__)
    assert find_conv_norm_pairs(model) == pairs
    assert model.__dict__ == state

    plain = copy.deepcopy(model)
    assert fold_batch_norm(model) == len(pairs)
    image = torch.randn(2, 8, 6, 5)
    for mode in (False, True, False):
        folded.clear()
        _assert_same(model.train(mode)(image), plain.train(mode)(image))
        assert len(folded) == (0 if mode else len(pairs))


def test_warns_of_modules_that_cannot_be_traced(caplog):
    with caplog.at_level(logging.WARNING, logger='focal_retinanet'):
        fold_batch_norm(nn.ModuleList([_Untraceable(), _Untraceable()]))
    (record,) = caplog.records
    assert '_Untraceable' in record.getMessage()


def test_convolutions_that_levels_share(folded, freeze):
    """mmdet's head has shared convolutions and a batch norm for each level."""
    head = RetinaSepBNHead(3, 5, 8, stacked_convs=2, feat_channels=8, norm_cfg=_BN)
    head = freeze(head)
    plain = copy.deepcopy(head)
    assert fold_batch_norm(head) == 2 * 2 * 5
    levels = [torch.randn(1, 8, n, n) for n in (9, 7, 5, 3, 1)]
    with torch.no_grad():
        _assert_same(head(levels), plain(levels))
    assert len(folded) == len(set(folded)) == 2 * 2 * 5


@pytest.mark.parametrize(
    'order',
    [('conv', 'norm', 'act'), ('conv', 'act', 'norm'), ('norm', 'conv', 'act')],
    ids=str,
)
def test_order_of_a_conv_module(order, freeze):
    model = freeze(ConvModule(8, 8, 3, norm_cfg=_BN, order=order))
    plain = copy.deepcopy(model)
    assert fold_batch_norm(model) == (order[1] == 'norm')
    image = torch.randn(2, 8, 6, 5)
    _assert_same(model(image), plain(image))
    # The argument that skips the norm may be given in several ways.
    _assert_same(model(image, norm=False), plain(image, norm=False))
    _assert_same(model(image, True, False), plain(image, True, False))
