"""Pairs of a convolution and a batch norm are found in a module's graph, and folded."""

import copy
import logging
import pickle
import random

import numpy as np
import pytest
import torch
from mmcv.cnn import ConvModule
from mmdet.models.dense_heads import RetinaSepBNHead
from torch import fx, nn
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
    assert find_conv_norm_pairs(model).names == tuple(pairs)
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


class _Busy(_OutputUsedTwice):
    """Its forward changes all that a module can have, and draws random numbers."""

    def __init__(self):
        super().__init__()
        self.register_buffer('steps', torch.zeros(()))
        self.register_buffer('mean', torch.ones(8))
        self.log = []
        self.factor = nn.Parameter(torch.ones(8))

    def forward(self, x):
        self.steps = self.steps + 1
        self.mean.mul_(0.9).add_(torch.rand(8) + random.random() + np.random.rand())
        for p in self.parameters(recurse=False):
            p.data.mul_(2)
        self.log.append(self.training)
        return self.bn1(self.conv1(x))


def test_trace_leaves_the_state_as_it_was(freeze):
    model = freeze(_Busy())
    before = copy.deepcopy(model.state_dict())
    states = [random.getstate(), str(np.random.get_state()), torch.get_rng_state()]
    assert fold_batch_norm(model) == 1
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert model.log == [] and not model.training
    assert random.getstate() == states[0]
    assert str(np.random.get_state()) == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_block_that_cannot_be_copied_is_left_out(caplog):
    model = _OutputUsedTwice()
    model.conv1.mask = model.conv1.weight * 2  # PyTorch copies leaves only
    model = nn.Sequential(model.conv1, model.bn1)
    with caplog.at_level(logging.WARNING, logger='focal_retinanet'):
        for _ in range(2):
            assert fold_batch_norm(model) == 0
    (record,) = caplog.records
    assert 'Sequential' in record.getMessage()


class _Reduced(nn.Sequential):
    def __reduce__(self):
        return _Reduced, tuple(self)


class _Copied(nn.Sequential):
    def __deepcopy__(self, memo):
        return type(self)(*copy.deepcopy(list(self), memo))


@pytest.mark.parametrize('make', [fx.symbolic_trace, _Reduced, _Copied])
def test_classes_with_copies_of_their_own_are_left_out(make, freeze, caplog):
    modules = [_conv(), nn.BatchNorm2d(8)]
    is_trace = make is fx.symbolic_trace
    model = freeze(make(nn.Sequential(*modules)) if is_trace else make(*modules))
    with caplog.at_level(logging.WARNING, logger='focal_retinanet'):
        for _ in range(2):
            assert fold_batch_norm(model) == 0
    (record,) = caplog.records
    assert 'copied or pickled' in record.getMessage()
    image = torch.randn(2, 8, 6, 5)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(image), model(image))


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
