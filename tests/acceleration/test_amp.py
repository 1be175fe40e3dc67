"""Mixed precision on a CPU: gradients of strided convolutions, and repeatable runs."""

import copy

import pytest
import torch
from mmcv.cnn import build_conv_layer
from torch import nn

from focal_retinanet.acceleration.amp import pad_small_maps
from focal_retinanet.acceleration.fast_conv import fold_batch_norm


def fill_memory_with_garbage():
    """Fill memory that an uninitialized gradient would get."""
    junk = [torch.full((size,), 1e30) for size in (16, 144, 576, 2304, 9216)]
    del junk


@pytest.mark.parametrize('size', [(1, 1), (2, 1), (1, 2), (8, 1), (2, 2), (5, 4)])
@pytest.mark.parametrize(
    'options',
    [
        dict(kernel_size=3, stride=2, padding=1),
        dict(kernel_size=1, stride=2),
        dict(kernel_size=7, stride=2, padding=3),
        dict(kernel_size=3, stride=3, padding=1),
        dict(kernel_size=3, stride=2, padding=2, dilation=2),
        dict(kernel_size=3, stride=(1, 2), padding=1, groups=16),
    ],
)
def test_gradients_of_strided_convolutions(size, options):
    torch.manual_seed(0)
    exact = nn.Conv2d(16, 16, **options)
    conv = copy.deepcopy(exact)
    pad_small_maps(conv)
    maps = torch.randn(4, 16, *size)
    expected = exact(maps)
    expected.sum().backward()
    for _ in range(5):
        fill_memory_with_garbage()
        conv.zero_grad()
        with torch.autocast('cpu', dtype=torch.bfloat16):
            found = conv(maps)
        found.float().sum().backward()
        torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.05)
        torch.testing.assert_close(
            conv.weight.grad, exact.weight.grad, rtol=0.02, atol=0.1
        )


@pytest.mark.parametrize(
    ('conv', 'name'),
    [
        (nn.Conv2d(4, 4, 3, stride=2), 'input'),
        (build_conv_layer(dict(type='Conv2d'), 4, 4, 3, stride=2, padding=1), 'input'),
        (build_conv_layer(dict(type='Conv'), 4, 4, 3, stride=2, padding=1), 'x'),
    ],
    ids=str,
)
def test_maps_given_by_keyword(conv, name):
    maps = torch.randn(2, 4, 8, 8)
    for size in (8, 1) if any(conv.padding) else (8,):
        inputs = {name: maps[..., :size, :size]}
        plain = copy.deepcopy(conv)
        pad_small_maps(conv)
        torch.testing.assert_close(conv(**inputs), plain(**inputs))
    with pytest.raises(TypeError):
        conv(maps, maps)
    with pytest.raises(TypeError):
        conv()


@pytest.mark.parametrize(
    'options',
    [
        dict(stride=2, padding=1, dilation=1),
        dict(stride=[2, 1], padding=[1, 1], dilation=[1, 1]),
        dict(stride=(2,), padding=(1,), dilation=(1,)),
    ],
    ids=str,
)
def test_options_that_were_set_later(options):
    conv = nn.Conv2d(4, 4, 3)
    vars(conv).update(options)
    maps = torch.randn(2, 4, 1, 8)
    expected = conv(maps)
    pad_small_maps(conv)
    assert conv._forward_pre_hooks
    torch.testing.assert_close(conv(maps), expected)


@pytest.mark.parametrize('type_', ['Conv2dAdaptivePadding', 'Conv'])
def test_convolutions_of_mmcv_give_the_same(type_):
    torch.manual_seed(0)
    conv = build_conv_layer(dict(type=type_), 4, 4, 3, stride=2)
    maps = torch.randn(2, 4, 1, 1) if type_ != 'Conv' else torch.randn(2, 4, 4, 3)
    expected = conv(maps)
    pad_small_maps(conv)
    torch.testing.assert_close(conv(maps), expected, rtol=0, atol=0)


def test_frozen_batch_norm_is_still_folded(caplog):
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 16, 3, stride=2, padding=1, bias=False)
    exact = nn.Sequential(conv, nn.BatchNorm2d(16)).eval()
    exact[1].running_var.uniform_(0.5, 2)
    model = copy.deepcopy(exact)
    assert fold_batch_norm(model) == 1
    pad_small_maps(model)
    model = copy.deepcopy(model)  # as EMAHook makes
    maps = torch.randn(4, 16, 1, 1)
    exact(maps).sum().backward()
    for _ in range(5):
        fill_memory_with_garbage()
        model.zero_grad()
        with torch.autocast('cpu', dtype=torch.bfloat16):
            found = model(maps)
        found.float().sum().backward()
        torch.testing.assert_close(
            model[0].weight.grad, exact[0].weight.grad, rtol=0.02, atol=0.1
        )
    assert 'not folded' not in caplog.text


def test_runs_with_the_same_seed_are_equal(runs, tiny_config, tmp_path):
    tiny_config.optim_wrapper.type = 'focal_retinanet.AmpOptimWrapper'
    tiny_config.randomness = dict(seed=0)
    one = runs.train(tiny_config, tmp_path / 'one')
    fill_memory_with_garbage()
    other = runs.train(tiny_config, tmp_path / 'other')
    runs.assert_same_weights(one, other)
    assert all(torch.isfinite(w).all() for w in one.model.state_dict().values())
