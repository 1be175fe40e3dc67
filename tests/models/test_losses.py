"""FocalLoss against mmdet's, with every option of mmdet's."""

import pytest
import torch
from mmdet.models.losses import FocalLoss as MMDetFocalLoss

from focal_retinanet.models import FocalLoss, FocalLossStar, HingeLoss

N, K = 60, 4


@pytest.fixture
def batch():
    torch.manual_seed(0)
    # In fp32, mmdet's loss of easy examples has errors of up to 1 %.
    return torch.randn(N, K, dtype=torch.float64) * 4, torch.randint(K + 1, (N,))


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
@pytest.mark.parametrize('alpha', [0.25, 0.9])
@pytest.mark.parametrize('weight', [None, 'anchor', 'element', 'flat element'])
@pytest.mark.parametrize(
    ('reduction', 'avg_factor'),
    [('none', None), ('mean', None), ('mean', 17.0), ('sum', None)],
)
@pytest.mark.parametrize('one_hot', [False, True])
def test_equals_mmdet(batch, gamma, alpha, weight, reduction, avg_factor, one_hot):
    logits, target = batch
    if one_hot:
        target = torch.nn.functional.one_hot(target, K + 1)[:, :K]
    if weight is not None:
        weight = {
            'anchor': torch.rand(N).double(),
            'element': torch.rand(N, K).double(),
            'flat element': torch.rand(N * K).double(),
        }[weight]
    options = dict(gamma=gamma, alpha=alpha, reduction=reduction, loss_weight=2.0)
    ours_in = logits.clone().requires_grad_()
    theirs_in = logits.clone().requires_grad_()
    ours = FocalLoss(**options)(ours_in, target, weight, avg_factor)
    theirs = MMDetFocalLoss(**options)(theirs_in, target, weight, avg_factor)
    torch.testing.assert_close(ours, theirs)
    ours.sum().backward()
    theirs.sum().backward()
    torch.testing.assert_close(ours_in.grad, theirs_in.grad)


def test_equals_mmdet_on_probabilities(batch):
    logits, target = batch
    ours = FocalLoss(activated=True)(logits.sigmoid(), target)
    theirs = MMDetFocalLoss(activated=True)(logits.sigmoid(), target)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('shape', [(), (7,), (2, 3, 5), (3, 5, 4, 4), (0, 5, 4, 4)])
@pytest.mark.parametrize('labels', ['one-hot', 'soft', 'integer'])
@pytest.mark.parametrize(
    ('reduction', 'avg_factor', 'weighted'),
    [('none', 3, True), ('mean', None, False), ('mean', 4.5, True), ('sum', None, 1)],
)
@pytest.mark.parametrize('activated', [False, True])
def test_labels_of_the_logits_shape_may_have_any_shape(
    shape, labels, reduction, avg_factor, weighted, activated
):
    torch.manual_seed(0)
    logits = torch.randn(shape, dtype=torch.float64)
    logits = logits.sigmoid() if activated else logits
    target = torch.rand(shape) if labels == 'soft' else torch.rand(shape).round()
    target = target.long() if labels == 'integer' else target
    weight = torch.rand(shape).double() if weighted else None
    found = []
    for loss_class in (FocalLoss, MMDetFocalLoss):
        pred = logits.clone().requires_grad_()
        loss = loss_class(activated=activated, loss_weight=2.0)
        loss = loss(pred, target, weight, avg_factor, reduction)
        loss.sum().backward()
        found.append((loss, pred.grad))
    if 0 in shape and reduction == 'mean' and avg_factor is None:
        assert found[1][0].isnan() and found[0][0] == 0  # the mean of no elements
    else:
        torch.testing.assert_close(found[0], found[1])


def test_classes_of_alpha_are_on_axis_1():
    torch.manual_seed(0)
    logits, target = torch.randn(2, K, 3, 5), torch.rand(2, K, 3, 5).round()
    loss = FocalLoss(alpha=[0.1, 0.2, 0.3, 0.4], reduction='none')
    as_rows = loss(
        logits.movedim(1, 3).reshape(-1, K), target.movedim(1, 3).flatten(0, 2)
    )
    expected = as_rows.reshape(2, 3, 5, K).movedim(3, 1)
    torch.testing.assert_close(loss(logits, target), expected)


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
@pytest.mark.parametrize('loss_class', [FocalLoss, HingeLoss])
def test_traced_mean_fits_other_sizes(loss_class):
    torch.manual_seed(0)
    loss = loss_class()
    inputs, others = ((torch.randn(n, K), torch.rand(n, K)) for n in (4, 7))
    traced = torch.jit.trace(lambda *args: loss(*args), inputs)
    torch.testing.assert_close(traced(*others), loss(*others))


def test_one_class():
    logits, target = torch.randn(10, 1), torch.randint(2, (10,))
    torch.testing.assert_close(
        FocalLoss()(logits, target), MMDetFocalLoss()(logits, target)
    )


def test_mean_leaves_ignored_anchors_out(batch):
    logits, target = batch
    with_ignored = torch.cat([target, torch.full((5,), -1)])
    more = torch.cat([logits, logits[:5]])
    for use_sigmoid in (True, False):
        loss = FocalLoss(use_sigmoid=use_sigmoid)
        target_ = target if use_sigmoid else target.clamp(max=K - 1)
        with_ignored_ = with_ignored if use_sigmoid else with_ignored.clamp(max=K - 1)
        torch.testing.assert_close(loss(more, with_ignored_), loss(logits, target_))


@pytest.mark.parametrize('name', ['loss_weight', 'avg_factor'])
def test_a_learned_factor_gets_its_gradient(name, batch):
    logits, target = batch
    factor = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    loss, avg_factor = FocalLoss(), 10.0
    if name == 'loss_weight':
        loss.loss_weight = factor
    else:
        avg_factor = factor
    value = loss(logits, target, avg_factor=avg_factor)
    (gradient,) = torch.autograd.grad(value, factor)
    sign = 1 if name == 'loss_weight' else -1
    torch.testing.assert_close(gradient, sign * value.detach() / 1.7)


def test_all_ignored_is_zero():
    assert FocalLoss()(torch.randn(3, 2), torch.full((3,), -1)) == 0


def test_softmax_form_that_mmdet_lacks(batch):
    logits, target = batch
    target = target.clamp(max=K - 1)
    loss = FocalLoss(use_sigmoid=False, alpha=[0.1, 0.2, 0.3, 0.4], reduction='none')
    weight = torch.rand(N)
    p = logits.softmax(1).gather(1, target[:, None])[:, 0]
    alpha = torch.tensor([0.1, 0.2, 0.3, 0.4]).double()[target]
    expected = -alpha * (1 - p) ** 2 * p.log() * weight
    torch.testing.assert_close(loss(logits, target, weight), expected)


def test_gradient_scaling_of_amp_and_no_grad(batch):
    logits, target = batch
    half = logits.half().requires_grad_()
    loss = FocalLoss()(half, target, avg_factor=10)
    (loss * 1024).backward()
    full = logits.half().float().requires_grad_()
    (FocalLoss()(full, target, avg_factor=10) * 1024).backward()
    torch.testing.assert_close(half.grad.float(), full.grad, rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(FocalLoss()(half, target, avg_factor=10), loss)


@pytest.mark.parametrize(
    'options',
    [
        dict(gamma=-1),
        dict(gamma=float('nan')),
        dict(label_smoothing=1.0),
        dict(reduction='average'),
        # They would give background, or positives, a negative loss.
        dict(alpha=2.0),
        dict(alpha=-1),
        dict(alpha=[0.5, 1.5]),
        dict(alpha=-0.5, use_sigmoid=False),
    ],
)
def test_bad_arguments_are_refused(options):
    with pytest.raises(ValueError, match=str(next(iter(options)))):
        FocalLoss(**options)
    FocalLoss(alpha=[0, 1])
    FocalLoss(alpha=[0.5, 2.0], use_sigmoid=False)


def test_bad_calls_are_refused(batch):
    logits, target = batch
    with pytest.raises(ValueError, match='avg_factor cannot be used'):
        FocalLoss(reduction='sum')(logits, target, avg_factor=3)
    with pytest.raises(ValueError, match='fits neither'):
        FocalLoss()(logits, target, weight=torch.ones(7))


@pytest.mark.parametrize('error', [ValueError, AssertionError])
@pytest.mark.parametrize(
    'call',
    [
        dict(reduction_override='average'),
        dict(reduction_override=''),
        dict(reduction_override=True),
        dict(weight=torch.ones(7)),
        dict(reduction_override='sum', avg_factor=2),
    ],
    ids=str,
)
def test_errors_may_be_caught_like_mmdets(batch, call, error):
    for loss in (FocalLoss(), FocalLossStar(), HingeLoss()):
        with pytest.raises(error):
            loss(*batch, **call)


def test_scope_selects_this_loss_or_mmdets():
    import mmdet.registry

    ours = mmdet.registry.MODELS.build(
        dict(type='focal_retinanet.FocalLoss', use_sigmoid=True)
    )
    theirs = mmdet.registry.MODELS.build(dict(type='FocalLoss'))
    assert type(ours) is FocalLoss
    assert type(theirs) is MMDetFocalLoss
