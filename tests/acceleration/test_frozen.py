"""What is kept of frozen weights is what each call would compute, or is not used."""

import copy
from unittest import mock

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

from focal_retinanet.acceleration import fast_conv, folding, frozen, packed
from focal_retinanet.acceleration.fast_conv import (
    fold_batch_norm,
    freeze_weights,
    use_winograd,
)
from focal_retinanet.acceleration.frozen import unfreeze_weights
from focal_retinanet.ops.nms import operator


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.last = nn.Conv2d(16, 32, 3, padding=1)

    def forward(self, x):
        return self.last(self.norm(self.conv(x)))


@pytest.fixture
def model():
    torch.manual_seed(0)
    block = Block().eval()
    with torch.no_grad():
        block.norm.running_var.uniform_(0.5, 2)
    fold_batch_norm(block)
    use_winograd(block)
    return block


@pytest.fixture
def images():
    return torch.randn(2, 16, 40, 40)


@pytest.fixture
def computed():
    """Counts how often weights are folded and transformed."""
    counts = mock.Mock()
    counts.fold.side_effect = folding.fold
    counts.transform.side_effect = fast_conv.transform
    with (
        mock.patch.object(folding, 'fold', counts.fold),
        mock.patch.object(fast_conv, 'transform', counts.transform),
    ):
        yield counts


@pytest.mark.parametrize('mode', [torch.no_grad, torch.inference_mode])
def test_weights_are_computed_with_once(model, images, computed, mode):
    with mode():
        expected = model(images)
        freeze_weights(model)
        computed.reset_mock()
        for _ in range(3):
            torch.testing.assert_close(model(images), expected, rtol=0, atol=0)
    assert computed.fold.call_count == 1
    assert computed.transform.call_count == 2
    unfreeze_weights(model)
    with mode():
        model(images)
    assert computed.fold.call_count == 2


@pytest.mark.parametrize('part', ['conv.weight', 'norm.running_mean', 'last.weight'])
def test_counted_changes_are_noticed(model, images, part):
    freeze_weights(model)
    plain = copy.deepcopy(model)  # a copy is not frozen
    with torch.no_grad():
        before = model(images)
        for changed in (model, plain):
            state = changed.state_dict()
            state[part] = state[part] + 1
            changed.load_state_dict(state)
        after = model(images)
        torch.testing.assert_close(after, plain(images), rtol=0, atol=0)
    assert not torch.allclose(after, before)


def test_statistics_that_adapt_are_noticed(model, images):
    freeze_weights(model)
    plain = copy.deepcopy(model)  # a copy is not frozen
    with torch.no_grad():
        before = model(images)
        for changed in (model, plain):
            changed.train()
            changed(images * 3 + 5)
            changed.eval()
        after = model(images)
        torch.testing.assert_close(after, plain(images), rtol=0, atol=0)
    assert not torch.allclose(after, before)


def test_training_goes_on_with_the_weights_of_the_moment(model, images, computed):
    freeze_weights(model)
    with torch.no_grad():
        model(images)
    for _ in range(2):
        model(images).sum().backward()
        torch.optim.SGD(model.parameters(), 0.01).step()
        model.zero_grad()
    assert computed.fold.call_count == 3
    with torch.no_grad():
        unfrozen = copy.deepcopy(model)
        torch.testing.assert_close(model(images), unfrozen(images), rtol=0, atol=0)


def test_weights_from_inference_mode_are_never_kept(images, computed):
    with torch.inference_mode():
        block = Block().eval()
        fold_batch_norm(block)
        use_winograd(block)
        freeze_weights(block)
        for _ in range(2):
            block(images)
    assert computed.fold.call_count == 2


@pytest.mark.parametrize(
    'options',
    [
        dict(kernel_size=1),
        dict(kernel_size=3, stride=2, padding=1),
        dict(kernel_size=3, padding=2, dilation=2, bias=False),
        dict(kernel_size=5, padding=(2, 0), groups=4),
        dict(kernel_size=3, padding='same'),
        dict(kernel_size=3, padding=1, padding_mode='reflect'),
    ],
    ids=str,
)
def test_packed_convolutions_of_all_sizes(options):
    conv = nn.Conv2d(16, 24, **options)
    model = nn.Sequential(conv, nn.Conv2d(24, 16, 3, padding=1))
    plain = copy.deepcopy(model)
    use_winograd(model)  # of the second convolution
    freeze_weights(model)
    with torch.no_grad():
        for size in ((1, 9, 7), (3, 20, 31), (1, 9, 7)):
            for layout in (torch.channels_last, torch.contiguous_format):
                maps = torch.randn(size[0], 16, *size[1:]).to(memory_format=layout)
                found, expected = conv(maps), plain[0](maps)
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
                assert found.stride() == expected.stride()
        with pytest.raises(RuntimeError, match='channels'):
            conv(torch.randn(1, 8, 9, 7).to(memory_format=torch.channels_last))
        assert conv(torch.randn(0, 16, 9, 9)).shape[0] == 0
        assert conv.double()(torch.randn(1, 16, 9, 9).double()).dtype == torch.float64


@pytest.mark.parametrize('channels', [1, 16])
@pytest.mark.parametrize('size', [(1, 1), (1, 5), (9, 7)])
@pytest.mark.parametrize('kernel', [1, 3])
@pytest.mark.parametrize('of_maps', [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize('of_weight', [torch.channels_last, torch.contiguous_format])
def test_layout_of_packed_convolutions(channels, size, kernel, of_maps, of_weight):
    conv = nn.Conv2d(channels, 16, kernel, padding=kernel // 2)
    conv.to(memory_format=of_weight)
    plain = copy.deepcopy(conv)
    _freeze_alone(conv)
    maps = torch.randn(2, channels, *size).to(memory_format=of_maps)
    with torch.no_grad():
        found, expected = conv(maps), plain(maps)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert found.stride() == expected.stride()


@pytest.mark.parametrize(
    'options',
    [
        dict(stride=2, padding=1, dilation=2),
        dict(stride=[2, 1], padding=[1, 0], dilation=[1, 2]),
        dict(padding=1),
        dict(stride=[2, 2]),
        dict(dilation=2),
        dict(stride=(2,), padding=(1,), dilation=(1,)),
    ],
    ids=str,
)
def test_options_that_were_set_later(options):
    conv = nn.Conv2d(16, 16, 3)
    vars(conv).update(options)
    plain = copy.deepcopy(conv)
    _freeze_alone(conv)
    maps = torch.randn(1, 16, 9, 7).to(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(conv(maps), plain(maps), rtol=1e-5, atol=1e-5)


def test_tangents_of_packed_convolutions():
    conv = nn.Conv2d(16, 16, 1)
    plain = copy.deepcopy(conv)
    _freeze_alone(conv)
    maps = torch.randn(1, 16, 9, 7).to(memory_format=torch.channels_last)
    tangents = []
    with torch.no_grad(), forward_ad.dual_level():
        for module in (plain, conv):
            output = module(forward_ad.make_dual(maps, maps.flip(2)))
            tangents.append(forward_ad.unpack_dual(output).tangent)
    torch.testing.assert_close(*tangents)
    assert tangents[0].any()


def test_function_modes_see_packed_convolutions(monkeypatch):
    monkeypatch.setattr(packed, '_run', mock.Mock(side_effect=AssertionError))
    conv = nn.Conv2d(16, 16, 1)
    plain = copy.deepcopy(conv)
    _freeze_alone(conv)
    maps = torch.randn(1, 16, 9, 7).to(memory_format=torch.channels_last)
    with torch.no_grad(), Doubled():
        torch.testing.assert_close(conv(maps), plain(maps))


class Doubled(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        output = func(*args, **kwargs or {})
        return output * 2 if func is torch.conv2d else output


def _freeze_alone(conv):
    """Freeze a convolution of any kind; the model needs one that is fast."""
    model = nn.Sequential(conv, nn.Conv2d(16, 16, 3, padding=1))
    use_winograd(model)
    freeze_weights(model)
    assert frozen._kept[conv] == {}


def test_packed_weights_are_used_and_few_are_kept(monkeypatch):
    packs = []
    pack = packed._pack
    monkeypatch.setattr(
        packed, '_pack', lambda *args: packs.append(args) or pack(*args)
    )
    model = nn.Sequential(nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 3, padding=1))
    use_winograd(model)
    freeze_weights(model)
    sizes = [torch.randn(1, 16, side, 8) for side in range(8, 28)]
    sizes = [maps.to(memory_format=torch.channels_last) for maps in sizes]
    with torch.no_grad():
        for maps in (*sizes, sizes[-1]):
            model[0](maps)
    if not packed._is_available():
        pytest.skip("this torch lacks oneDNN's operators")
    assert len(packs) == len(sizes)
    assert len(frozen._kept[model[0]]) == frozen._MOST


def test_a_torch_without_the_operators(monkeypatch, images):
    monkeypatch.setattr(packed, '_run', mock.Mock(side_effect=AttributeError))
    packed._is_available.cache_clear()
    try:
        assert not packed._is_available()
        model = nn.Sequential(nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 3, padding=1))
        expected = model(images)
        use_winograd(model)
        freeze_weights(model)
        with torch.no_grad():
            torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4)
    finally:
        packed._is_available.cache_clear()


def test_nothing_old_is_taken_for_a_new_tensor_in_its_place(model, images):
    """Memory of a freed tensor is used again, as other sizes alternate."""
    freeze_weights(model)
    small = images[..., :8, :8].contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for number in range(6):
            model.conv.weight.mul_(-1.5)
            plain = copy.deepcopy(model)
            for maps in (small, images) if number % 2 else (small,):
                torch.testing.assert_close(
                    model(maps), plain(maps), rtol=1e-4, atol=1e-4
                )
        model.norm.eps = 1.0
        plain = copy.deepcopy(model)
        torch.testing.assert_close(model(images), plain(images), rtol=1e-4, atol=1e-4)


def test_nothing_old_is_taken_for_new_data_in_its_place(model, images):
    """As with ``half()`` and ``float()``, the second data may lie where the old were."""
    freeze_weights(model)
    with torch.no_grad():
        for _ in range(20):
            model(images)
            for conv in (model.conv, model.last):
                conv.weight.data = conv.weight.data * 2
                conv.weight.data = conv.weight.data * -0.5
            plain = copy.deepcopy(model)
            torch.testing.assert_close(
                model(images), plain(images), rtol=1e-4, atol=1e-4
            )


def test_other_view_of_the_same_data_is_noticed(images):
    conv = nn.Conv2d(16, 16, 3, padding=1)
    model = nn.Sequential(conv)
    use_winograd(model)
    freeze_weights(model)
    with torch.no_grad():
        model(images)
        conv.weight.data = conv.weight.data.transpose(2, 3)
        plain = copy.deepcopy(model)
        torch.testing.assert_close(model(images), plain(images), rtol=1e-4, atol=1e-4)


def weight_norm(conv):
    nn.utils.parametrizations.weight_norm(conv)
    return conv.parametrizations.weight.original0


def old_weight_norm(conv):
    nn.utils.weight_norm(conv)
    return conv.weight_g


@pytest.mark.parametrize('normalize', [weight_norm, old_weight_norm])
@pytest.mark.filterwarnings('ignore:.*weight_norm:FutureWarning')
def test_weights_that_are_computed_in_each_call(model, images, normalize):
    if not hasattr(nn.utils.parametrizations, 'weight_norm'):
        pytest.skip('torch before 2.1')
    freeze_weights(model)
    with torch.no_grad():
        model(images)
        lengths = normalize(model.conv)
        for factor in (1, 2, 0.5):
            lengths.data.mul_(factor)
            weight = torch._weight_norm(
                model.conv.parametrizations.weight.original1
                if normalize is weight_norm
                else model.conv.weight_v,
                lengths,
            )
            maps = nn.functional.conv2d(images, weight, padding=1)
            maps = nn.BatchNorm2d.forward(model.norm, maps)
            expected = nn.functional.conv2d(
                maps, model.last.weight, model.last.bias, padding=1
            )
            torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4)


def compiled(model, images):
    return torch.compile(model, backend='eager')(images)


def exported(model, images):
    if not operator.IS_SUPPORTED:
        pytest.skip('torch.export before 2.4 is another')
    return torch.export.export(model, (images,), strict=False).module()(images)


def autocast(model, images):
    with torch.autocast('cpu', torch.bfloat16):
        return model(images).float()


def twice(model, images):
    shared = nn.ModuleList([model.conv, model.conv])
    return shared[1](shared[0](images))


@pytest.mark.parametrize('way', [compiled, exported, autocast, twice])
def test_ways_of_calling_a_frozen_model(model, images, way):
    plain = copy.deepcopy(model)
    freeze_weights(model)
    images = images.to(memory_format=torch.channels_last)
    with torch.no_grad():
        model(images)  # so that something is kept
        found, expected = way(model, images), way(plain, images)
    tolerance = 0.05 if way is autocast else 1e-4
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
