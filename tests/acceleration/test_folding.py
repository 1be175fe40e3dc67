"""Folded batch norms compute what plain ones do, whatever is done to their modules."""

import copy
import logging
import pickle

import pytest
import torch
from mmcv.cnn import ConvModule
from mmdet.models.backbones import ResNet
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from focal_retinanet.acceleration.fast_conv import fold_batch_norm


def _conv(kernel=3):
    return nn.Conv2d(8, 8, kernel, padding=kernel // 2, bias=False)


def _assert_same(ours, reference):
    torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-5)


def test_mmcvs_own_folding(freeze):
    image = torch.randn(2, 8, 6, 5)
    model = freeze(
        ConvModule(8, 8, 3, norm_cfg=dict(type='BN'), efficient_conv_bn_eval=True)
    )
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


class _Switched(nn.Module):
    """Its path depends on ``switch``."""

    switch = ''

    def __init__(self):
        super().__init__()
        self.conv, self.norm = _conv(), nn.BatchNorm2d(8)

    def forward(self, x):
        if self.switch == 'conv':
            x = self.conv(x)
        y = self.conv(x)
        if self.switch == 'skip':
            return y
        return self.norm(y) + y if self.switch == 'both' else self.norm(y)


class _SwitchedInside(_Switched):
    """Its path depends on an object that is no attribute of the block itself."""

    def __init__(self):
        super().__init__()
        self.options = {'switch': ''}

    @property
    def switch(self):
        return self.options['switch']


@pytest.mark.parametrize('switch', ['skip', 'conv', 'both'])
def test_path_that_an_attribute_changed_is_not_folded(switch, folded, freeze, caplog):
    model, image = freeze(_Switched()), torch.randn(1, 8, 4, 4)
    plain = copy.deepcopy(model)
    assert fold_batch_norm(model) == 1
    model.switch = plain.switch = switch
    with caplog.at_level(logging.WARNING, logger='focal_retinanet'):
        for _ in range(2):
            assert torch.equal(model(image), plain(image))
    (record,) = caplog.records
    assert '_Switched' in record.getMessage() and not folded
    model.switch = plain.switch = ''
    model.note = True  # nothing reads it
    _assert_same(model(image), plain(image))
    assert folded


@pytest.mark.parametrize('switch', ['skip', 'conv'])
def test_path_that_was_not_traced_is_an_error(switch, freeze):
    model = freeze(_SwitchedInside())
    assert fold_batch_norm(model) == 1
    model.options['switch'] = switch
    with pytest.raises(
        RuntimeError, match=r'_SwitchedInside\.forward.*fold_batch_norm'
    ):
        model(torch.randn(1, 8, 4, 4))
    model.options['switch'] = ''
    assert model(torch.randn(1, 8, 4, 4)).shape == (1, 8, 4, 4)


class _RandomlyDropped(nn.Module):
    def forward(self, weight):
        return functional.dropout(weight, 0.5, training=True)


def _spectral_norm(conv):
    nn.utils.parametrizations.spectral_norm(conv)


def _dropped(conv):
    nn.utils.parametrize.register_parametrization(conv, 'weight', _RandomlyDropped())


@pytest.mark.parametrize('parametrize', [_spectral_norm, _dropped])
@pytest.mark.parametrize('when', ['before', 'after'])
def test_parametrization_is_computed_once(parametrize, when, folded, freeze):
    results = []
    for fold in (False, True):
        torch.manual_seed(1)
        model = freeze(nn.Sequential(_conv(), nn.BatchNorm2d(8)))
        if when == 'before':
            parametrize(model[0])
        if fold:
            fold_batch_norm(model)
        torch.manual_seed(2)
        if when == 'after':
            parametrize(model[0])
        model.train()[1].eval()
        torch.manual_seed(3)
        image = torch.randn(1, 8, 4, 4)
        outputs = [model(image) for _ in range(2)]
        outputs[1].square().sum().backward()
        grads = [p.grad for p in model.parameters()]
        results.append([*outputs, *grads, *model.buffers(), torch.rand(2)])
    for ours, reference in zip(*results, strict=True):
        assert torch.equal(ours, reference)
    assert not folded


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


class _Recomputed(nn.Module):
    """Recomputes both or the convolution, if ``options`` (which fx reads) say so."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = _conv(), nn.BatchNorm2d(8)
        self.options = {}

    def forward(self, x):
        if not self.options:
            return self.norm(self.conv(x))
        use_reentrant = self.options['use_reentrant']
        if self.options['is_whole']:
            return checkpoint(
                lambda x: self.norm(self.conv(x)), x, use_reentrant=use_reentrant
            )
        return self.norm(checkpoint(self.conv, x, use_reentrant=use_reentrant))


@pytest.mark.parametrize('use_reentrant', [True, False])
@pytest.mark.parametrize('is_whole', [True, False])
def test_part_of_a_block_that_is_recomputed(use_reentrant, is_whole, folded, freeze):
    model = freeze(_Recomputed())
    plain = copy.deepcopy(model)
    assert fold_batch_norm(model) == 1
    image = torch.randn(2, 8, 6, 5, requires_grad=True)
    results = []
    for net in (plain, model):
        net.options.update(use_reentrant=use_reentrant, is_whole=is_whole)
        output = net(image)
        image.grad = None
        output.square().sum().backward()
        results.append([output, image.grad, *(p.grad for p in net.parameters())])
    for ours, reference in zip(*results, strict=True):
        _assert_same(ours, reference)
    assert not folded


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
