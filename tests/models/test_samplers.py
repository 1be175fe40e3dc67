"""The rivals' samplers in a head: which losses count, and the number that divides them."""

import pytest
import torch
from mmcv.ops import nms
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData

from focal_retinanet.models.samplers import OHEMSampler
from focal_retinanet.registry import TASK_UTILS


@pytest.fixture
def head_and_batch(heads):
    """Makes a head with a sampler, its maps, and objects of two images."""

    def make(**sampler):
        torch.manual_seed(0)
        head = heads.make(
            stacked_convs=1,
            loss_cls=dict(gamma=0.0, alpha=0.5),
            train_cfg=dict(sampler=sampler),
        )
        heads.randomize(head)
        bboxes = torch.tensor([[10.0, 10, 50, 60], [60, 30, 140, 100]])
        gt = InstanceData(bboxes=bboxes, labels=torch.tensor([1, 4]))
        nothing = InstanceData(bboxes=bboxes[:0], labels=gt.labels[:0])
        return head, head(heads.features()), [gt, nothing]

    return make


def anchors_of_images(head, outs, gts):
    """Return loss, predicted box and label of each anchor, as lists over images."""
    cls_scores, bbox_preds = outs
    anchors = head._anchors(cls_scores)
    losses, bboxes, labels = [], [], []
    for b, gt in enumerate(gts):
        logits = torch.cat([s[b].permute(1, 2, 0).reshape(-1, 5) for s in cls_scores])
        deltas = torch.cat([d[b].permute(1, 2, 0).reshape(-1, 4) for d in bbox_preds])
        found = head.assigner.assign(InstanceData(priors=anchors), gt)
        label = torch.where(found.gt_inds == 0, 5, found.labels)
        y = torch.nn.functional.one_hot(label.clamp(min=0), 6)[:, :5].float()
        ce = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, y, reduction='none'
        )
        losses.append(0.5 * ce.sum(1) * (label >= 0))
        bboxes.append(get_box_tensor(head.bbox_coder.decode(anchors, deltas)))
        labels.append(label)
    return losses, bboxes, labels


@pytest.mark.parametrize('ratio', [None, 3])
def test_ohem_is_the_mean_over_the_minibatches(ratio, head_and_batch, heads):
    head, outs, gts = head_and_batch(
        type='focal_retinanet.OHEMSampler', num=32, neg_pos_ratio=ratio
    )
    total, count = 0, 0
    for losses, bboxes, labels in zip(*anchors_of_images(head, outs, gts), strict=True):
        kept = head.sampler.sample_anchors(
            losses, (labels >= 0) & (labels < 5), labels < 0, bboxes
        )
        total += losses[kept].sum()
        count += kept.sum()
    assert 0 < count <= 64
    loss = head.loss_by_feat(*outs, gts, heads.metas())['loss_cls'][0]
    torch.testing.assert_close(loss, total / count)
    loss.backward()
    assert head.retina_cls.weight.grad.any()


@pytest.mark.parametrize('threshold', [0.5, 0.7])
def test_ohem_suppresses_like_mmcv(threshold):
    torch.manual_seed(0)
    losses, none = torch.rand(2000), torch.zeros(2000, dtype=torch.bool)
    corner = torch.rand(2000, 2) * 60
    bboxes = torch.cat([corner, corner + 5 + torch.rand(2000, 2) * 35], dim=1)
    kept = OHEMSampler(32, threshold).sample_anchors(losses, none, none, bboxes)
    survivors = nms(bboxes, losses, threshold)[1]
    assert len(survivors) > 32
    assert set(kept.nonzero()[:, 0].tolist()) == set(survivors[:32].tolist())


def test_hard_negatives_are_divided_by_the_positives(head_and_batch, heads):
    head, outs, gts = head_and_batch(
        type='focal_retinanet.HardNegativeSampler', neg_pos_ratio=3
    )
    losses, _, labels = anchors_of_images(head, outs, gts)
    positive = (labels[0] >= 0) & (labels[0] < 5)
    negatives = losses[0][labels[0] == 5].sort(descending=True).values
    # The second image has no positives, so none of its negatives count.
    expected = losses[0][positive].sum() + negatives[: 3 * positive.sum()].sum()
    loss = head.loss_by_feat(*outs, gts, heads.metas())['loss_cls'][0]
    torch.testing.assert_close(loss, expected / positive.sum())


@pytest.mark.parametrize('type_', ['OHEMSampler', 'HardNegativeSampler'])
def test_box_loss_is_over_all_positives(type_, head_and_batch, heads):
    head, outs, gts = head_and_batch(type=f'focal_retinanet.{type_}')
    plain, _, _ = head_and_batch(type='PseudoSampler')
    loss = head.loss_by_feat(*outs, gts, heads.metas())['loss_bbox'][0]
    expected = plain.loss_by_feat(*outs, gts, heads.metas())['loss_bbox'][0]
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(
    'loss_cls',
    [
        dict(type='focal_retinanet.FocalLoss', use_sigmoid=True),
        dict(type='focal_retinanet.FocalLoss', use_sigmoid=False),
        dict(type='focal_retinanet.FocalLossStar', use_sigmoid=True),
        dict(type='CrossEntropyLoss', use_sigmoid=True),
    ],
    ids=str,
)
def test_a_weight_of_positives_leaves_out_what_the_sampler_does(loss_cls, heads):
    found = []
    for pos_weight in (-1, 1):
        torch.manual_seed(0)
        head = heads.make(
            loss_cls=dict(loss_cls, _delete_=True),
            train_cfg=dict(
                sampler=dict(type='focal_retinanet.OHEMSampler', num=16),
                pos_weight=pos_weight,
            ),
        )
        heads.randomize(head)
        found.append(heads.losses_and_gradients(head, heads.objects(4, 17)))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(
    'type_, key, value',
    [
        ('OHEMSampler', 'num', 0),
        ('OHEMSampler', 'nms_iou_thr', 0),
        ('OHEMSampler', 'neg_pos_ratio', 0),
        ('HardNegativeSampler', 'neg_pos_ratio', -1),
    ],
)
def test_bad_arguments_are_named(type_, key, value):
    with pytest.raises(ValueError, match=key):
        TASK_UTILS.build({'type': type_, key: value})
