"""FL* and the hinge loss against their formulas."""

import math

import pytest
import torch

from focal_retinanet.models import FocalLossStar, HingeLoss
from focal_retinanet.ops.rivals import focal_loss_star, hinge_loss
from focal_retinanet.registry import MODELS

LOSSES = [FocalLossStar, HingeLoss]
X = [-120.0, -3.0, -0.2, 0.0, 0.7, 4.0, 120.0]


def log_sigmoid(x):
    return -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))


@pytest.mark.parametrize('y', [0, 1])
@pytest.mark.parametrize('gamma, beta', [(2.0, 1.0), (4.0, 0.0)])
def test_focal_loss_star_equals_appendix_a(gamma, beta, y):
    x = torch.tensor(X, requires_grad=True)
    # There is one class: index 0 means y = 1, and index 1 background.
    loss = focal_loss_star(x[:, None], torch.full((len(X),), 1 - y), gamma, beta, 0.25)
    loss.sum().backward()
    a_t = 0.25 if y else 0.75
    sign = 1 if y else -1
    log_p_star = [log_sigmoid(gamma * sign * value + beta) for value in X]
    expected = torch.tensor([-a_t * log_p / gamma for log_p in log_p_star])
    torch.testing.assert_close(loss[:, 0], expected)
    slope = torch.tensor(
        [a_t * sign * (math.exp(log_p) - 1) for log_p in log_p_star]
    )  # y (p*_t - 1)
    torch.testing.assert_close(x.grad, slope)


@pytest.mark.parametrize('y', [0, 1])
def test_hinge_loss_is_zero_above_its_margin(y):
    x = torch.tensor(X, requires_grad=True)
    targets = torch.full((len(X),), 1 - y)
    loss = hinge_loss(x[:, None], targets, margin=0.6, alpha=0.25)
    loss.sum().backward()
    a_t = 0.25 if y else 0.75
    p_t = [math.exp(log_sigmoid(value if y else -value)) for value in X]
    expected = torch.tensor([a_t * max(0, 0.6 - p) for p in p_t])
    torch.testing.assert_close(loss[:, 0], expected)
    sign = 1 if y else -1
    slope = [-a_t * sign * p * (1 - p) * (p < 0.6) for p in p_t]
    torch.testing.assert_close(x.grad, torch.tensor(slope))


@pytest.mark.parametrize('loss', LOSSES)
def test_weights_ignored_anchors_and_reductions(loss):
    torch.manual_seed(0)
    logits = torch.randn(6, 3)
    targets = torch.tensor([0, 2, 3, -1, 1, 3])
    weight = torch.rand(6)
    module = MODELS.build(dict(type=loss.__name__, use_sigmoid=True, loss_weight=2.0))
    elements = module(logits, targets, reduction_override='none')
    assert elements.shape == (6, 3)
    assert not elements[3].any()
    one_hot = torch.nn.functional.one_hot(targets.clamp(min=0), 4)[:, :3]
    kept = targets >= 0
    soft = module(logits[kept], one_hot[kept].float(), reduction_override='none')
    torch.testing.assert_close(soft, elements[kept])
    weighted = (elements * weight[:, None]).sum()
    torch.testing.assert_close(
        module(logits, targets, weight, avg_factor=4.0), weighted / 4
    )
    torch.testing.assert_close(
        module(logits, targets, reduction_override='sum'), elements.sum()
    )
    torch.testing.assert_close(module(logits, targets), elements.sum() / (5 * 3))
    with pytest.raises(ValueError, match='avg_factor'):
        module(logits, targets, avg_factor=1.0, reduction_override='sum')


@pytest.mark.parametrize('loss', LOSSES)
def test_one_hot_labels_may_have_any_shape(loss):
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 4, 5), torch.rand(2, 3, 4, 5).round()
    elements = loss(reduction='none')(logits, labels)
    flat = loss(reduction='none')(logits.reshape(-1, 1), labels.reshape(-1, 1))
    torch.testing.assert_close(elements, flat.reshape(logits.shape))
    torch.testing.assert_close(loss()(logits, labels), elements.mean())
    torch.testing.assert_close(
        loss()(logits[0, 0, 0], labels[0, 0, 0]), flat[:5].mean()
    )


@pytest.mark.parametrize(
    'loss, bad',
    [
        (FocalLossStar, dict(gamma=0)),
        (FocalLossStar, dict(reduction='average')),
        (FocalLossStar, dict(use_sigmoid=False)),
        (HingeLoss, dict(margin=0)),
        (HingeLoss, dict(margin=1.5)),
        (HingeLoss, dict(use_sigmoid=False)),
        (FocalLossStar, dict(alpha=-1)),
        (HingeLoss, dict(alpha=[0.5, 1.5])),
    ],
)
def test_bad_arguments_are_named(loss, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        loss(**bad)
