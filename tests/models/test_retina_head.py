"""RetinaHead's initialisation, its defaults, and parts that users derive."""

import pytest
import torch
from mmdet.models.task_modules import PseudoSampler

from focal_retinanet.models import (
    AnchorGenerator,
    FocalLoss,
    MaxIoUAssigner,
    RetinaHead,
)


@pytest.mark.parametrize('pi', [0.01, 0.1, 0.5])
def test_every_anchor_starts_with_confidence_pi(pi, heads):
    head = heads.make(pi=pi)
    head.init_weights()
    assert torch.allclose(head.retina_cls.bias.sigmoid(), torch.tensor(pi))
    scores = torch.cat([s.flatten() for s in head(heads.features())[0]]).sigmoid()
    torch.testing.assert_close(scores.mean(), torch.tensor(pi), rtol=1e-3, atol=0)
    weights = torch.cat([c.conv.weight.flatten() for c in head.cls_convs])
    assert weights.std().item() == pytest.approx(0.01, rel=0.1)
    assert all((c.conv.bias == 0).all() for c in head.reg_convs)


def test_prior_of_the_softmax_form(heads):
    head = heads.make(loss_cls=dict(use_sigmoid=False), pi=0.01)
    head.init_weights()
    maps = head(heads.features())
    logits = maps[0][0]  # (B, A * 6, H, W)
    p = logits.permute(0, 2, 3, 1).reshape(-1, 6).softmax(1)
    assert p[:, :5].sum(1).mean().item() == pytest.approx(0.01, rel=1e-2)
    losses, gradients = heads.losses_and_gradients(head, heads.objects(4, 6))
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(torch.isfinite(g).all() for g in gradients.values())
    assert len(head.predict_by_feat(*maps, batch_img_metas=heads.metas())) == 2


@pytest.mark.parametrize('use_sigmoid', [True, False])
def test_weights_are_initialised_once(use_sigmoid, heads):
    head = heads.make(loss_cls=dict(use_sigmoid=use_sigmoid))
    head.init_weights()
    torch.nn.init.constant_(head.retina_cls.bias, 7)
    head.init_weights()
    assert (head.retina_cls.bias == 7).all()


@pytest.mark.parametrize(
    ('options', 'channels'), [({}, 5), (dict(use_sigmoid=False), 6)]
)
def test_channels_follow_the_default_of_the_loss(options, channels, heads):
    loss_cls = dict(type='focal_retinanet.FocalLoss', _delete_=True, **options)
    assert heads.make(loss_cls=loss_cls).retina_cls.out_channels == 9 * channels


def test_bad_pi_is_refused(heads):
    with pytest.raises(ValueError, match='pi is a probability'):
        heads.make(pi=0)


def test_default_box_loss_is_that_of_the_papers_release():
    head = RetinaHead(num_classes=2, in_channels=8)
    assert type(head.loss_bbox).__name__ == 'SmoothL1Loss'
    assert head.loss_bbox.beta == pytest.approx(1 / 9)


class DerivedHead(RetinaHead):
    """A user's head with steps of its own."""

    def _predict_by_feat_single(self, *args, **kwargs):
        results = super()._predict_by_feat_single(*args, **kwargs)
        results.scores = results.scores / 2
        return results

    def loss_by_feat_single(self, *args, **kwargs):
        loss_cls, loss_bbox = super().loss_by_feat_single(*args, **kwargs)
        return loss_cls * 3, loss_bbox


def test_steps_of_a_derived_head_are_used(heads):
    ours, theirs = heads.pair()
    derived = heads.make(DerivedHead)
    derived.load_state_dict(ours.state_dict())
    maps = ours(heads.features())
    found = derived.predict_by_feat(*maps, batch_img_metas=heads.metas())
    expected = theirs.predict_by_feat(*maps, batch_img_metas=heads.metas())
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.scores * 2, b.scores)
    gt = heads.objects(4, 6)
    losses, _ = heads.losses_and_gradients(derived, gt)
    expected, _ = heads.losses_and_gradients(theirs, gt)
    torch.testing.assert_close(losses['loss_cls'], expected['loss_cls'] * 3)


@pytest.mark.parametrize(
    'name', ['_bbox_post_process', '_predict_by_feat_single', 'get_targets']
)
def test_every_step_that_a_derived_head_overrides_is_called(name, heads):
    called = []

    def step(self, *args, **kwargs):
        called.append(name)
        return getattr(super(Derived, self), name)(*args, **kwargs)

    Derived = type('Derived', (RetinaHead,), {name: step})
    head = heads.make(Derived)
    heads.losses_and_gradients(head, heads.objects(4, 6))
    head.predict_by_feat(*head(heads.features()), batch_img_metas=heads.metas())
    assert called


def test_own_targets_and_a_sampler_that_ignores_them_are_refused(heads):
    sampler = dict(type='focal_retinanet.HardNegativeSampler')
    Derived = type('Derived', (RetinaHead,), {'get_targets': lambda self: None})
    head = heads.make(Derived, train_cfg=dict(sampler=sampler))
    with pytest.raises(
        TypeError, match=r'HardNegativeSampler.* ignore its get_targets'
    ):
        heads.losses_and_gradients(head, heads.objects(4, 6))


@pytest.mark.parametrize(
    ('part', 'cls', 'name'),
    [
        ('assigner', MaxIoUAssigner, 'assign'),
        ('assigner', MaxIoUAssigner, 'assign_wrt_overlaps'),
        ('sampler', PseudoSampler, 'sample'),
        ('loss_cls', FocalLoss, 'forward'),
        ('loss_cls', FocalLoss, '__call__'),
        ('prior_generator', AnchorGenerator, 'valid_flags'),
        ('prior_generator', AnchorGenerator, 'single_level_valid_flags'),
    ],
)
@pytest.mark.parametrize('of_class', [True, False], ids=['class', 'instance'])
def test_every_part_that_somebody_changes_is_used(part, cls, name, of_class, heads):
    head, theirs = heads.pair()
    changed, called = getattr(head, part), []
    original = getattr(type(changed), name)

    def step(self, *args, **kwargs):
        called.append(name)
        return original(self, *args, **kwargs)

    if of_class:
        changed.__class__ = type('Derived', (type(changed),), {name: step})
    elif name == '__call__':
        pytest.skip('Python looks it up in the class')
    else:
        object.__setattr__(changed, name, step.__get__(changed))
    gt = heads.objects(4, 6)
    found = heads.losses_and_gradients(head, gt)
    assert called and issubclass(type(changed), cls)
    torch.testing.assert_close(found, heads.losses_and_gradients(theirs, gt))


@pytest.mark.parametrize('of_all_modules', [True, False])
def test_hooks_of_the_loss_are_called(of_all_modules, heads):
    head, _ = heads.pair()
    expected = heads.losses_and_gradients(head, heads.objects(4, 6))
    seen = []

    def hook(module, inputs, output):
        seen.append(module)

    register = head.loss_cls.register_forward_hook
    if of_all_modules:
        register = torch.nn.modules.module.register_module_forward_hook
    handle = register(hook)
    found = heads.losses_and_gradients(head, heads.objects(4, 6))
    handle.remove()
    assert head.loss_cls in seen
    torch.testing.assert_close(found, expected)
    seen.clear()
    heads.losses_and_gradients(head, heads.objects(4, 6))
    assert not seen
