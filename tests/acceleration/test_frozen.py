"""What is kept of frozen weights is what each call would compute, or is not used."""

import copy
from unittest import mock

import pytest
import torch
from torch import nn

from focal_retinanet.acceleration import fast_conv, folding
from focal_retinanet.acceleration.fast_conv import fold_batch_norm, use_winograd
from focal_retinanet.acceleration.frozen import freeze_weights, unfreeze_weights


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
