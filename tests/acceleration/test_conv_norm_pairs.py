"""Batch norms are folded if they follow a convolution in a module's graph."""

import copy
import logging
import pickle

import pytest
import torch
from mmcv.cnn import ConvModule
from mmdet.models.backbones import ResNet
from mmdet.models.dense_heads import RetinaSepBNHead
from torch import nn
from torch.nn import functional

from focal_retinanet.acceleration import folding
from focal_retinanet.acceleration.conv_norm_pairs import find_conv_norm_pairs
from focal_retinanet.acceleration.fast_conv import fold_batch_norm


def _conv(kernel=3):
    return nn.Conv2d(8, 8, kernel, padding=kernel // 2, bias=False)


@pytest.fixture
def freeze(randomize_batch_norms):
    def freeze(model):
        randomize_batch_norms(model).eval()
        return model  # mmdet's eval() returns None

    return freeze


@pytest.fixture
def folded(monkeypatch):
    """Batch norms that a convolution did."""
    norms = []
    pass_on = folding.pass_on
    monkeypatch.setattr(
        folding, 'pass_on', lambda *args: norms.append(args[1]) or pass_on(*args)
    )
    return norms


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


_BN = dict(type='BN')


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


def test_mmcvs_own_folding(freeze):
    image = torch.randn(2, 8, 6, 5)
    model = freeze(ConvModule(8, 8, 3, norm_cfg=_BN, efficient_conv_bn_eval=True))
    expected = model(image)
    fold_batch_norm(model)
    _assert_same(model(image), expected)


def test_mmengines_own_folding(folded, freeze):
    """It finds the same modules, and the norms are not applied twice."""
    from mmengine.model.efficient_conv_bn_eval import turn_on_efficient_conv_bn_eval

    model = nn.Sequential(nn.Sequential(_conv(), nn.BatchNorm2d(8)), nn.ReLU())
    model, image = freeze(model), torch.randn(2, 8, 6, 5)
    expected = model(image)
    assert fold_batch_norm(model) == 1
    turn_on_efficient_conv_bn_eval(model, '0')
    _assert_same(model(image), expected)
    assert not folded


def test_convolution_outside_of_its_block_only_convolves(folded, freeze):
    model = freeze(ResNet(18, base_channels=8))
    image = torch.randn(1, 3, 32, 32)
    expected = model.conv1(image)
    fold_batch_norm(model)
    assert torch.equal(model.conv1(image), expected)
    model(image)
    assert len(folded) == 20


def _hook(model, seen):
    model[0].register_forward_hook(lambda m, args, output: seen.append(output.clone()))


def _hook_of_the_norm(model, seen):
    model[1].register_forward_pre_hook(lambda m, args: seen.append(args[0].clone()))


def _backward_hook(model, seen):
    model[0].register_full_backward_hook(lambda m, g_in, g_out: seen.append(g_out[0]))


def _hook_of_all_modules(model, seen):
    def hook(module, args, output):
        if module is model[0]:
            seen.append(output.clone())
            handle.remove()

    handle = nn.modules.module.register_module_forward_hook(hook)


def _replaced_norm(model, seen):
    model[1] = nn.InstanceNorm2d(8)


def _synchronized_norm(model, seen):
    model[1] = nn.SyncBatchNorm.convert_sync_batchnorm(model[1])


def _replaced_conv(model, seen):
    torch.manual_seed(3)
    model[0] = _conv()


def _no_norm(model, seen):
    del model[1]


def _norm_with_a_forward(model, seen):
    norm = model[1]
    norm.forward = lambda x: seen.append(x) or x * 2


def _compiled_norm(model, seen):
    if hasattr(model[1], 'compile'):  # torch 2.2
        model[1].compile(backend='eager')


def _unfrozen(model, seen):
    model[1].train()


@pytest.mark.parametrize(
    'change',
    [
        _hook,
        _hook_of_the_norm,
        _backward_hook,
        _hook_of_all_modules,
        _compiled_norm,
        _replaced_norm,
        _synchronized_norm,
        _replaced_conv,
        _no_norm,
        _norm_with_a_forward,
        _unfrozen,
    ],
)
def test_changes_after_folding_take_effect(change, folded, freeze):
    results = []
    for fold in (False, True):
        torch.manual_seed(1)
        model = freeze(nn.Sequential(_conv(), nn.BatchNorm2d(8)))
        if fold:
            assert fold_batch_norm(model) == 1
        seen = []
        change(model, seen)
        output = model(torch.linspace(-1, 1, 2 * 8 * 6 * 5).view(2, 8, 6, 5))
        output.square().sum().backward()
        results.append([output, *seen])
    assert len(results[0]) == len(results[1])
    _assert_same(results[1], results[0])
    assert not folded


def test_path_that_was_not_traced_is_an_error(freeze):
    class Switched(_OutputUsedTwice):
        skip = False

        def forward(self, x):
            y = self.conv1(x)
            return y if self.skip else self.bn1(y)

    model = freeze(Switched())
    assert fold_batch_norm(model) == 1
    model.skip = True
    with pytest.raises(RuntimeError, match=r'Switched\.forward.*fold_batch_norm'):
        model(torch.randn(1, 8, 4, 4))
    model.skip = False
    assert model(torch.randn(1, 8, 4, 4)).shape == (1, 8, 4, 4)


def test_error_inside_of_a_block_leaves_no_state(freeze):
    model = freeze(nn.Sequential(_conv(), nn.BatchNorm2d(8)))
    fold_batch_norm(model)
    with pytest.raises(RuntimeError):
        model(torch.randn(1, 7, 4, 4))
    image = torch.randn(1, 8, 4, 4)
    assert torch.equal(
        model[0](image), functional.conv2d(image, model[0].weight, padding=1)
    )


def test_folding_twice_changes_nothing(folded, freeze):
    model = freeze(nn.Sequential(_conv(), nn.BatchNorm2d(8)))
    image = torch.randn(1, 8, 4, 4)
    expected = model(image)
    assert fold_batch_norm(model) == 1
    assert fold_batch_norm(model) == 0
    _assert_same(model(image), expected)
    assert len(folded) == 1


def test_classes_keep_names_and_bases():
    """Copies and slices of a block are blocks."""
    model = nn.Sequential(_conv(), nn.BatchNorm2d(8), nn.ReLU())
    plain = copy.deepcopy(model)
    fold_batch_norm(model)
    assert isinstance(model, nn.Sequential)
    assert type(model).__name__ == 'Sequential'
    image = torch.randn(1, 8, 4, 4)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model[:2]):
        assert type(other) is type(model)
        assert other.state_dict().keys() == plain.state_dict().keys()
        _assert_same(other.eval()(image), plain.eval()[: len(other)](image))


def test_recomputed_blocks(folded, freeze):
    """mmdet recomputes the inside of a block, whose norms are not folded."""
    model = freeze(ResNet(18, base_channels=8, with_cp=True))
    plain = copy.deepcopy(model)
    assert fold_batch_norm(model) == 1 + 3  # the stem and the shortcuts
    image = torch.randn(1, 3, 32, 32)
    for net in (plain, model):
        sum(x.square().mean() for x in net(image)).backward()
    for ours, reference in zip(model.parameters(), plain.parameters(), strict=True):
        _assert_same(ours.grad, reference.grad)
    assert folded


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_not_folded(dtype, folded, caplog, freeze):
    model = freeze(nn.Sequential(_conv(), nn.BatchNorm2d(8))).to(dtype)
    image = torch.randn(1, 8, 4, 4).to(dtype)
    try:
        expected = model(image)
    except RuntimeError as error:
        pytest.skip(str(error))  # PyTorch before 2.2 has no such convolution
    fold_batch_norm(model)
    with caplog.at_level(logging.WARNING, logger='focal_retinanet'):
        for _ in range(2):
            assert torch.equal(model(image), expected)
    assert len(caplog.records) == 1 and not folded
