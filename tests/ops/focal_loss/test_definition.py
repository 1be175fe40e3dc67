"""The loss of each element against the paper's formulas in fp64."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from focal_retinanet.ops import sigmoid_focal_loss, softmax_focal_loss
from focal_retinanet.ops.rivals import focal_loss_star

EXTREMES = [-1e4, -120.0, -100.0, -40.0, -1.0, 0.0, 1.0, 40.0, 100.0, 120.0, 1e4]


def formula(x, y, gamma, alpha):
    """Equation 5 for one logit, with the standard library's 64-bit floats."""
    x_t = x if y else -x
    a_t = (alpha if y else 1 - alpha) if alpha is not None else 1.0
    log_p_t = -math.log1p(math.exp(-x_t)) if x_t > -700 else x_t
    one_minus_p_t = 1 / (1 + math.exp(x_t)) if x_t < 700 else 0.0
    return -a_t * one_minus_p_t**gamma * log_p_t


@given(
    x=st.floats(-500, 500),
    y=st.booleans(),
    gamma=st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 5.0]),
    alpha=st.sampled_from([None, 0.25, 0.75, 0.999]),
)
def test_sigmoid_equals_the_formula(x, y, gamma, alpha):
    target = torch.tensor([0 if y else 1])  # K = 1: index 1 is background
    loss = sigmoid_focal_loss(
        torch.tensor([[x]], dtype=torch.float64), target, gamma=gamma, alpha=alpha
    )
    assert loss.item() == pytest.approx(
        formula(x, y, gamma, alpha), rel=1e-9, abs=1e-300
    )


@given(
    x=st.floats(-30, 30),
    y=st.booleans(),
    gamma=st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]),
)
def test_gradient_equals_appendix_b(x, y, gamma):
    logits = torch.tensor([[x]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0 if y else 1])
    sigmoid_focal_loss(logits, target, gamma=gamma, alpha=None).sum().backward()
    sign = 1 if y else -1
    p_t = 1 / (1 + math.exp(-sign * x))
    expected = (
        sign
        * (1 / (1 + math.exp(sign * x))) ** gamma
        * (gamma * p_t * math.log(p_t) - 1 / (1 + math.exp(sign * x)))
    )
    assert logits.grad.item() == pytest.approx(expected, rel=1e-7, abs=1e-20)


@pytest.mark.parametrize('form', ['index', 'one-hot', 'soft', 'activated', 'smoothed'])
@pytest.mark.parametrize('gamma', [0.0, 0.3, 2.0])
def test_sigmoid_gradcheck(form, gamma):
    torch.manual_seed(0)
    logits = torch.randn(6, 4, dtype=torch.float64) * 3
    index = torch.tensor([0, 3, 4, -1, 2, 4])
    target = index
    if form == 'one-hot':
        target = F.one_hot(index.clamp(min=0), 5)[:, :4]
    elif form == 'soft':
        target = torch.rand(6, 4, dtype=torch.float64)
    elif form == 'activated':
        logits = logits.sigmoid()
    logits.requires_grad_()

    def loss(x):
        return sigmoid_focal_loss(
            x,
            target,
            gamma=gamma,
            alpha=[0.1, 0.2, 0.3, 0.4],
            activated=form == 'activated',
            label_smoothing=0.1 if form == 'smoothed' else 0.0,
        )

    assert torch.autograd.gradcheck(loss, logits)


@pytest.mark.parametrize('activated', [False, True])
@pytest.mark.parametrize('gamma', [0.0, 0.3, 2.0])
def test_softmax_gradcheck(gamma, activated):
    torch.manual_seed(0)
    logits = torch.randn(5, 4, dtype=torch.float64) * 3
    target = torch.tensor([0, 3, 2, -1, 1])
    if activated:
        logits = logits.softmax(1)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: softmax_focal_loss(
            x, target, gamma=gamma, alpha=0.5, label_smoothing=0.1, activated=activated
        ),
        logits,
    )


def test_softmax_equals_the_formula():
    torch.manual_seed(0)
    logits = torch.randn(50, 7, dtype=torch.float64) * 5
    target = torch.randint(7, (50,))
    alpha = torch.rand(7, dtype=torch.float64)
    p = logits.softmax(1).gather(1, target[:, None])[:, 0]
    expected = -alpha[target] * (1 - p) ** 2 * p.log()
    one_hot = F.one_hot(target, 7)
    for form in (target, one_hot):
        loss = softmax_focal_loss(logits, form, gamma=2.0, alpha=alpha.tolist())
        torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize('gamma', [0.0, 0.1, 0.5, 2.0, 5.0])
@pytest.mark.parametrize('form', ['sigmoid', 'softmax'])
def test_finite_and_exact_at_extreme_logits(dtype, gamma, form):
    column = torch.tensor(EXTREMES).to(dtype)
    logits = torch.stack([column, -column], 1).requires_grad_()
    target = torch.zeros(len(EXTREMES), dtype=torch.long)
    focal_loss = sigmoid_focal_loss if form == 'sigmoid' else softmax_focal_loss
    loss = focal_loss(logits, target, gamma=gamma)
    assert loss.dtype == torch.float32
    reference = focal_loss(logits.detach().double(), target, gamma=gamma)
    torch.testing.assert_close(loss.double(), reference, rtol=2e-5, atol=1e-37)

    loss.sum().backward()
    assert torch.isfinite(logits.grad).all()
    exact = logits.detach().double().requires_grad_()
    focal_loss(exact, target, gamma=gamma).sum().backward()
    # fp16 has no numbers below 6e-8.
    atol = 1e-7 if dtype == torch.float16 else 1e-37
    rtol = {torch.float32: 2e-5, torch.bfloat16: 8e-3, torch.float16: 1e-3}[dtype]
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=rtol, atol=atol)


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
@pytest.mark.parametrize('label_smoothing', [0.0, 0.1])
@pytest.mark.parametrize('form', ['index', 'one-hot', 'star'])
def test_infinite_logits(form, label_smoothing, gamma, dtype):
    """The loss is 0 if they are right, infinite if wrong, and 0 without weight."""
    logits = torch.tensor([[70_000, -70_000]], dtype=torch.float32)
    logits = (logits * torch.inf).to(dtype).requires_grad_()

    def loss_of(target, alpha):
        if form == 'star':
            return focal_loss_star(logits, torch.tensor([target]), alpha=alpha)
        one_hot = F.one_hot(torch.tensor([target]), 3)[:, :2]
        return sigmoid_focal_loss(
            logits,
            torch.tensor([target]) if form == 'index' else one_hot,
            gamma=gamma,
            alpha=alpha,
            label_smoothing=label_smoothing,
        )

    cases = [(1, 0.25, [math.inf, math.inf]), (2, 0.25, [math.inf, 0.0])]
    if not label_smoothing or gamma:
        # Smoothed cross entropy alone is infinite for a certain answer, too.
        cases += [(0, 0.25, [0.0, 0.0]), (2, 1.0, [0.0, 0.0])]
    else:
        cases = cases[:1]
    for target, alpha, expected in cases:
        loss = loss_of(target, alpha)
        assert loss[0].tolist() == expected
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert gradient.isfinite().all()
        # A certain answer pulls with the weight a_t if it is wrong.
        pulls = gradient[0] != 0
        assert pulls.tolist() == [x > 0 for x in expected]


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
@pytest.mark.parametrize('target', [0, 1, 2])
def test_softmax_with_ruled_out_classes_is_as_cross_entropy(gamma, target):
    """They have the probability 0, and the class 0 has 1: the modulating factor is 1."""
    gradients = []
    for loss_of in (
        lambda x, t: softmax_focal_loss(x, t, gamma=gamma, alpha=None),
        F.cross_entropy,
    ):
        logits = torch.tensor([[3.0, -torch.inf, -torch.inf]], requires_grad=True)
        loss = loss_of(logits, torch.tensor([target])).sum()
        assert loss == (torch.inf if target else 0)
        gradients += torch.autograd.grad(loss, logits)
    assert torch.equal(*gradients)


def test_gradient_of_labels_of_any_value():
    torch.manual_seed(0)
    logits = torch.randn(5, 3, dtype=torch.float64)
    labels = torch.rand(5, 3, dtype=torch.float64)
    labels[:3] = torch.tensor([0.0, 1.0])[torch.randint(2, (3, 3))].double()
    labels.requires_grad_()
    (found,) = torch.autograd.grad(sigmoid_focal_loss(logits, labels).sum(), labels)
    p = logits.sigmoid()
    one_minus_p_t = labels * (1 - p) + (1 - labels) * p
    a_t = 0.25 * labels + 0.75 * (1 - labels)
    ce = F.binary_cross_entropy_with_logits(logits, labels, reduction='none')
    (expected,) = torch.autograd.grad((a_t * one_minus_p_t**2 * ce).sum(), labels)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('form', [sigmoid_focal_loss, softmax_focal_loss])
def test_bytes_are_no_negative_numbers(form):
    logits = torch.randn(4, 3)
    target = torch.tensor([0, 1, 2, 255], dtype=torch.uint8)
    with pytest.raises(ValueError, match='target 255 is not in'):
        form(logits, target)
    ignored = target.long().masked_fill(target == 255, -1)
    expected = form(logits, ignored)
    assert torch.equal(form(logits, target, ignore_index=255), expected)


@pytest.mark.parametrize('row', [[0.5, 0.3, 0.2], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
def test_labels_of_a_softmax_are_one_hot(row):
    labels = torch.tensor([[0.0, 1.0, 0.0], row])
    with pytest.raises(ValueError, match=r'one-hot, got .* in row 1'):
        softmax_focal_loss(torch.randn(2, 3), labels)


def test_gradient_is_finite_for_probabilities_of_zero_and_one():
    p = torch.tensor([[0.0, 1.0], [1.0, 0.0]], requires_grad=True)
    for target in (torch.tensor([0, 0]), torch.tensor([2, 1])):
        loss = sigmoid_focal_loss(p, target, gamma=0.1, activated=True)
        assert torch.isfinite(loss).all()
        (gradient,) = torch.autograd.grad(loss.sum(), p)
        assert torch.isfinite(gradient).all()


def test_gamma_zero_is_alpha_balanced_cross_entropy():
    torch.manual_seed(0)
    logits, target = torch.randn(40, 3), torch.randint(4, (40,))
    y = F.one_hot(target, 4)[:, :3].float()
    bce = F.binary_cross_entropy_with_logits(logits, y, reduction='none')
    expected = bce * torch.where(y > 0, 0.25, 0.75)
    torch.testing.assert_close(sigmoid_focal_loss(logits, target, gamma=0.0), expected)
    ce = F.cross_entropy(logits, target.clamp(max=2), reduction='none')
    softmax = softmax_focal_loss(logits, target.clamp(max=2), gamma=0.0, alpha=None)
    torch.testing.assert_close(softmax, ce)


def test_label_smoothing_does_not_change_the_modulating_factor():
    logits, target = torch.tensor([[2.0, -1.0]], dtype=torch.float64), torch.tensor([0])
    p = logits.sigmoid()[0]
    y, smooth = torch.tensor([1.0, 0.0]), torch.tensor([0.95, 0.05])
    ce = -(smooth * p.log() + (1 - smooth) * (1 - p).log())
    factor = torch.where(y > 0, 1 - p, p) ** 2  # of the true label
    expected = torch.where(y > 0, 0.25, 0.75) * factor * ce
    loss = sigmoid_focal_loss(logits, target, label_smoothing=0.1)
    torch.testing.assert_close(loss[0], expected)


def test_ignored_rows_have_no_loss_and_no_gradient_even_if_not_finite():
    logits = torch.tensor([[1.0, 2.0], [float('nan'), 3.0]], requires_grad=True)
    target = torch.tensor([0, 7])
    loss = sigmoid_focal_loss(logits, target, ignore_index=7)
    assert (loss[1] == 0).all()
    assert (loss[0] > 0).all()


def test_index_and_one_hot_targets_agree():
    torch.manual_seed(0)
    logits, index = torch.randn(30, 5), torch.randint(6, (30,))
    one_hot = F.one_hot(index, 6)[:, :5]
    torch.testing.assert_close(
        sigmoid_focal_loss(logits, one_hot), sigmoid_focal_loss(logits, index)
    )


@pytest.mark.parametrize(
    ('targets', 'options', 'says'),
    [
        (torch.tensor([0, 9]), {}, 'target 9 is not in 0..3'),
        (torch.tensor([0.0, 1.0]), {}, 'integer class indices'),
        (torch.tensor([0, 1, 2]), {}, r'shape \(2,\)'),
        (torch.tensor([0, 1]), {'alpha': [0.1, 0.2]}, 'alpha has 2 numbers for 3'),
        (torch.tensor([0, 1]), {'alpha': -1}, r'alpha must be in \[0, 1\], got -1'),
    ],
)
def test_bad_input_is_named(targets, options, says):
    with pytest.raises(ValueError, match=says):
        sigmoid_focal_loss(torch.zeros(2, 3), targets, **options)


def test_softmax_takes_any_alpha_but_a_negative_one():
    logits, targets = torch.zeros(2, 3), torch.tensor([0, 2])
    loss = softmax_focal_loss(logits, targets, alpha=[1.0, 0.0, 3.0])
    torch.testing.assert_close(loss, math.log(3) * 4 / 9 * torch.tensor([1.0, 3.0]))
    with pytest.raises(ValueError, match=r'alpha must be >= 0, got -0\.5'):
        softmax_focal_loss(logits, targets, alpha=[1.0, -0.5, 3.0])


def test_softmax_over_one_class_is_refused():
    with pytest.raises(ValueError, match='over one class'):
        softmax_focal_loss(torch.zeros(2, 1), torch.tensor([0, 0]))
