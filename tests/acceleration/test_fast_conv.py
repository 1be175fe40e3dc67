"""Fast convolutions compute what the plain ones do, with the same parameters."""

import copy

import pytest
import torch
from mmcv.cnn import ConvModule
from mmdet.models.backbones import MobileNetV2, ResNet
from torch import nn

from focal_retinanet.acceleration.fast_conv import (
    FastConv2d,
    fold_batch_norm,
    use_winograd,
)


def _backbones():
    common = dict(norm_eval=True, norm_cfg=dict(type='BN', requires_grad=False))
    return [
        ResNet(18, base_channels=16, frozen_stages=1, **common),
        ResNet(50, base_channels=8, frozen_stages=1, **common),
        ResNet(18, base_channels=16, deep_stem=True, avg_down=True, **common),
        MobileNetV2(widen_factor=0.25, frozen_stages=1, **common),
    ]


# The number of 3x3 convolutions of stride 1 with at least 16 channels.
@pytest.mark.parametrize(('index', 'by_winograd'), [(0, 13), (1, 10), (2, 13), (3, 0)])
def test_backbones_keep_their_results(
    index, by_winograd, kernel_calls, randomize_batch_norms
):
    """Errors are differences from fp64.

    The fast backbone's may be 30 times the plain one's: those of Winograd's algorithm
    are 10 times as large, and the gradient of a ReLU differs if its input is closer to
    zero than that.
    """
    plain = randomize_batch_norms(_backbones()[index])
    fast, exact = copy.deepcopy(plain), copy.deepcopy(plain).double()
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in plain.modules())
    assert fold_batch_norm(fast) == norms
    assert use_winograd(fast) == by_winograd
    assert fast.state_dict().keys() == plain.state_dict().keys()

    image = torch.randn(2, 3, 64, 64)
    results = []
    for model in (exact, plain, fast):
        model.train()
        outputs = model(image.to(next(model.parameters()).dtype))
        sum(output.square().mean() for output in outputs).backward()
        grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        results.append({**dict(enumerate(outputs)), **grads})
    exact, plain, fast = results
    assert fast.keys() == plain.keys() == exact.keys()
    for name, expected in exact.items():
        error, usual = (
            ((x[name].double() - expected).norm() / expected.norm()).item()
            for x in (fast, plain)
        )
        assert error < 30 * usual + 1e-6, name
    assert kernel_calls.count('winograd_output') >= by_winograd


def test_frozen_batch_norms_are_not_computed(monkeypatch):
    model = _backbones()[0]
    fold_batch_norm(model)
    model.train()

    def fail(*args, **kwargs):
        raise AssertionError('batch norm was computed')

    monkeypatch.setattr(nn.functional, 'batch_norm', fail)
    model(torch.randn(1, 3, 32, 32))
    model.norm_eval = False
    model.train()
    with pytest.raises(AssertionError, match='was computed'):
        model(torch.randn(1, 3, 32, 32))


def test_batch_norm_in_training_mode_is_computed():
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    folded = copy.deepcopy(plain)
    fold_batch_norm(folded)
    image = torch.randn(2, 3, 8, 8)
    for mode in (True, False, True):
        plain.train(mode), folded.train(mode)
        torch.testing.assert_close(folded(image), plain(image))
    torch.testing.assert_close(folded.state_dict(), plain.state_dict())


def test_detection_sees_new_weights(kernel_calls, randomize_batch_norms):
    """A change of the parameters takes effect, however it is made."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)).eval()
    plain = copy.deepcopy(model)
    fold_batch_norm(model)
    use_winograd(model)
    image = torch.randn(1, 16, 8, 8)

    @torch.no_grad()
    def assert_same():
        for _ in range(2):
            torch.testing.assert_close(model(image), plain(image), rtol=0, atol=1e-5)

    assert_same()
    for module in (model, plain):  # an optimizer's step
        with torch.no_grad():
            module[0].weight.mul_(2)
    assert_same()
    for module in (model, plain):  # a swap with an averaged model
        module[0].weight.data.mul_(0.5)
        module[1].running_var.data.mul_(2)
    assert_same()
    state = randomize_batch_norms(copy.deepcopy(plain)).state_dict()
    for module in (model, plain):
        module.load_state_dict(state)
    assert_same()
    other = copy.deepcopy(model)  # as for an averaged model
    with torch.no_grad():
        other[0].weight.zero_()
    assert_same()
    assert not other(image).allclose(model(image))
    assert kernel_calls


def test_convolution_that_levels_share(kernel_calls):
    """Its gradients of all levels add up."""
    torch.manual_seed(0)
    plain = ConvModule(16, 32, 3, padding=1)
    fast = copy.deepcopy(plain)
    assert use_winograd(fast) == 1
    levels = [torch.randn(2, 16, n, n + 1) for n in (16, 8, 4, 2, 1)]
    for _ in range(2):  # the second step has different weights
        for model in (plain, fast):
            model.zero_grad()
            sum(model(level).square().mean() for level in levels).backward()
        for ours, reference in zip(fast.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, reference.grad, rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            for p in [*plain.parameters(), *fast.parameters()]:
                p.mul_(0.5)
    assert kernel_calls.count('winograd_weight_gradient') == 2 * len(levels)


@pytest.mark.parametrize(
    'conv',
    [
        nn.Conv2d(16, 16, 1),
        nn.Conv2d(16, 16, 3),
        nn.Conv2d(16, 16, 3, stride=2, padding=1),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2),
        nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.Conv2d(16, 16, 3, padding=1, padding_mode='reflect'),
        nn.Conv2d(3, 16, 3, padding=1),
        nn.Conv2d(16, 16, 3, padding='same'),
    ],
    ids=str,
)
def test_other_convolutions_do_not_change(conv, kernel_calls):
    image = torch.randn(1, conv.in_channels, 9, 9)
    expected = conv(image)
    assert use_winograd(nn.Sequential(conv)) == 0
    # Neither does a convolution that becomes such a one later.
    changed = nn.Conv2d(16, 16, 3, padding=1)
    assert use_winograd(changed) == 1
    changed.__dict__.update(
        {k: v for k, v in conv.__dict__.items() if k not in ('_by_winograd',)}
    )
    assert isinstance(changed, FastConv2d) and changed._by_winograd
    assert torch.equal(conv(image), expected)
    assert torch.equal(changed(image), expected)
    assert not kernel_calls


def test_subclasses_of_a_convolution_do_not_change():
    class Standardized(nn.Conv2d):
        def forward(self, input):
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return self._conv_forward(input, weight, self.bias)

    model = nn.Sequential(Standardized(16, 16, 3, padding=1), nn.BatchNorm2d(16))
    assert fold_batch_norm(model) == 0
    assert use_winograd(model) == 0
    assert type(model) is nn.Sequential and type(model[0]) is Standardized


def test_bf16_is_computed_by_pytorch(kernel_calls):
    conv = nn.Conv2d(16, 16, 3, padding=1)
    image = torch.randn(1, 16, 8, 8)
    with torch.autocast('cpu', torch.bfloat16):
        expected = conv(image)
        use_winograd(nn.Sequential(conv))
        assert torch.equal(conv(image), expected)
    assert not kernel_calls
