"""RetinaHead trains as mmdet's head with the same weights."""

import pytest
import torch
from mmengine.structures import InstanceData

from focal_retinanet.models import FocalLoss, RetinaHead


@pytest.fixture
def assert_same_training(heads):
    def check(ours, theirs, gt, img_metas=None, ignore=None):
        losses, gradients = heads.losses_and_gradients(ours, gt, img_metas, ignore)
        expected = heads.losses_and_gradients(theirs, gt, img_metas, ignore)
        for name, loss in expected[0].items():
            torch.testing.assert_close(losses[name], loss, rtol=1e-5, atol=1e-7)
        for name, gradient in expected[1].items():
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-6)

    return check


@pytest.mark.parametrize(
    'changes',
    [
        {},
        dict(num_classes=80),
        dict(loss_bbox=dict(type='L1Loss', _delete_=True)),
        dict(train_cfg=dict(pos_weight=3.0)),
        dict(train_cfg=dict(allowed_border=0)),
        dict(reg_decoded_bbox=True, loss_bbox=dict(type='GIoULoss', _delete_=True)),
        dict(norm_cfg=dict(type='GN', num_groups=4)),
    ],
    ids=['paper', '80 classes', 'L1', 'pos_weight', 'border', 'GIoU', 'GN'],
)
def test_losses_and_gradients_equal_mmdet(changes, heads, assert_same_training):
    assert_same_training(*heads.pair(**changes), heads.objects(4, 17))


def test_images_of_different_size_in_one_batch_equal_mmdet(heads, assert_same_training):
    metas = heads.metas((128, 192), (64, 96))
    assert_same_training(*heads.pair(), heads.objects(5, 5), metas)


def test_crowds_equal_mmdet(heads, assert_same_training):
    pair = heads.pair(train_cfg=dict(assigner=dict(ignore_iof_thr=0.5)))
    assert_same_training(*pair, heads.objects(4, 6), ignore=heads.objects(2, 0))


@pytest.mark.parametrize(
    'changes',
    [
        dict(
            loss_cls=dict(type='GHMC', use_sigmoid=True, momentum=0.75, _delete_=True)
        ),
        dict(loss_bbox=dict(type='GHMR', mu=0.02, bins=10, _delete_=True)),
    ],
    ids=['GHMC', 'GHMR'],
)
def test_losses_that_look_at_a_level_equal_mmdet(changes, heads, assert_same_training):
    ours, theirs = heads.pair(**changes)
    ours.monitors_loss = True  # there are no shares then
    assert_same_training(ours, theirs, heads.objects(4, 17))


def test_sampled_minibatch_equals_mmdet(heads):
    sampler = dict(type='RandomSampler', num=64, pos_fraction=0.5, neg_pos_ub=-1)
    losses = []
    for head in heads.pair(train_cfg=dict(sampler=sampler)):
        torch.manual_seed(5)
        losses.append(heads.losses_and_gradients(head, heads.objects(4, 6))[0])
    torch.testing.assert_close(*losses)


def test_normaliser_is_the_number_of_positives_of_the_batch(heads):
    """mmdet counts an image without objects as one positive, RetinaHead does not."""
    ours, theirs = heads.pair()
    gt = heads.objects(6, 0)
    losses, _ = heads.losses_and_gradients(ours, gt)
    mmdets, _ = heads.losses_and_gradients(theirs, gt)
    sizes = [f.shape[-2:] for f in heads.features()]
    anchors = torch.cat(ours.prior_generator.grid_priors(sizes, device='cpu'))
    result = ours.assigner.assign(InstanceData(priors=anchors), gt[0])
    positives = (result.gt_inds > 0).sum()
    for name, loss in losses.items():
        expected = mmdets[name] * (positives + 1) / positives
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)


def test_batch_without_objects_trains(heads):
    ours, _ = heads.pair()
    losses, gradients = heads.losses_and_gradients(ours, heads.objects(0, 0))
    assert losses['loss_bbox'] == 0
    assert losses['loss_cls'] > 0
    # DDP waits for every parameter, so all must be part of the graph.
    assert all(g is not None and torch.isfinite(g).all() for g in gradients.values())


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_loss_without_objects_is_zero_in_every_dtype(dtype, heads):
    head = heads.make()
    maps = head(heads.features(height=512, width=640))
    scores, deltas = ([level.detach().to(dtype) for level in part] for part in maps)
    deltas = [(level + 0.3).requires_grad_() for level in deltas]
    metas = heads.metas((512, 640), (512, 640))
    gt = heads.objects(0, 0)
    gt[0].labels = torch.zeros(0)  # as some pipelines leave them
    loss = head.loss_by_feat(scores, deltas, gt, metas)['loss_bbox'][0]
    loss.backward()
    assert loss == 0
    assert loss.dtype == (dtype if dtype == torch.float64 else torch.float32)
    assert all((level.grad == 0).all() for level in deltas)


@pytest.mark.parametrize('gpu', [False, True])
def test_losses_of_a_double_head_are_double(gpu, heads, request):
    if gpu:
        request.getfixturevalue('all_anchors')
    features = [level.double() for level in heads.features()]
    found = [
        head.double().loss_by_feat(*head(features), heads.objects(4, 6), heads.metas())
        for head in heads.pair()
    ]
    for name, (loss,) in found[0].items():
        assert loss.dtype == torch.float64
        torch.testing.assert_close(loss, sum(found[1][name]), rtol=1e-8, atol=0)


@pytest.mark.parametrize('label', [-1, 5])
def test_label_of_no_class_is_refused(label, heads):
    head = heads.make()
    gt = heads.objects(4, 6)
    gt[1].labels[2] = label
    with pytest.raises(ValueError, match=rf'target {label} is not in 0\.\.4'):
        head.loss_by_feat(*head(heads.features()), gt, heads.metas())


@pytest.mark.parametrize('reduction', ['sum', 'none'])
@pytest.mark.parametrize('name', ['loss_cls', 'loss_bbox'])
def test_losses_that_cannot_be_divided_are_refused(name, reduction, heads):
    head = heads.make(**{name: dict(reduction=reduction)})
    with pytest.raises(ValueError, match=rf"{name}\.reduction='{reduction}'"):
        heads.losses_and_gradients(head, heads.objects(4, 6))


@pytest.mark.parametrize('ignore_index', [2, 5, 255])
def test_the_loss_ignores_the_same_targets_alone(ignore_index, heads):
    class Plain(FocalLoss):
        def forward(self, *args, **kwargs):
            return super().forward(*args, **kwargs)

    head = heads.make(loss_cls=dict(ignore_index=ignore_index))
    heads.randomize(head)
    gt = heads.objects(4, 17)
    found = heads.losses_and_gradients(head, gt)
    head.loss_cls.__class__ = Plain
    torch.testing.assert_close(found, heads.losses_and_gradients(head, gt))


def test_border_that_excludes_all_anchors_is_an_error(heads):
    ours, _ = heads.pair(train_cfg=dict(allowed_border=0))
    metas = heads.metas((4, 4), (4, 4))
    with pytest.raises(ValueError, match='allowed_border=-1'):
        ours.loss_by_feat(*ours(heads.features()), heads.objects(1, 1), metas)


@pytest.fixture
def all_anchors(monkeypatch):
    """Give all anchors to the box loss, as on a GPU.

    There, the host does not wait for the number of positives.
    """
    monkeypatch.setattr(RetinaHead, '_picks_positives', lambda self, matched: False)


@pytest.mark.parametrize(
    'changes',
    [
        {},
        dict(
            reg_decoded_bbox=True,
            loss_bbox=dict(type='GIoULoss', loss_weight=2.0, _delete_=True),
        ),
    ],
    ids=['smooth L1', 'GIoU'],
)
def test_box_loss_on_a_gpu_equals_that_on_a_cpu(changes, heads, request):
    head, _ = heads.pair(**changes)
    gt = heads.objects(4, 17)
    expected = heads.losses_and_gradients(head, gt)
    request.getfixturevalue('all_anchors')
    found = heads.losses_and_gradients(head, gt)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures('all_anchors')
def test_predictions_for_background_add_nothing_to_the_box_loss(heads):
    head = heads.make()
    with torch.no_grad():
        scores, deltas = head(heads.features())
    deltas[0][0, :, 0, 0] = torch.inf  # a corner without an object
    deltas = [level.requires_grad_() for level in deltas]
    bboxes = torch.tensor([[60.0, 60, 120, 120]])
    gt = [InstanceData(bboxes=bboxes, labels=torch.tensor([1]))] * 2
    (loss,) = head.loss_by_feat(scores, deltas, gt, heads.metas())['loss_bbox']
    loss.backward()
    assert loss.isfinite() and loss > 0
    assert all(level.grad.isfinite().all() for level in deltas)
