"""The rivals' samplers in the head: whose losses count, and divided by what."""

from pathlib import Path

import pytest
import torch
from mmcv.ops import nms
from mmdet.structures.bbox import get_box_tensor
from mmengine.config import Config
from mmengine.structures import InstanceData

from focal_retinanet.models import RetinaHead
from focal_retinanet.models.samplers import OHEMSampler
from focal_retinanet.registry import TASK_UTILS

MODEL = 'configs/_base_/models/retinanet_r50_fpn.py'
METAS = [dict(img_shape=(128, 192), pad_shape=(128, 192))] * 2


def head_and_batch(sampler):
    torch.manual_seed(0)
    model = Config.fromfile(Path(__file__).parents[2] / MODEL).model
    cfg = {**model.bbox_head, 'train_cfg': model.train_cfg, 'test_cfg': model.test_cfg}
    cfg.pop('type')
    cfg.update(num_classes=5, in_channels=8, feat_channels=8, stacked_convs=1)
    cfg['loss_cls'].update(gamma=0.0, alpha=0.5)
    cfg['train_cfg'].sampler = sampler
    head = RetinaHead(**cfg)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    bboxes = torch.tensor([[10.0, 10, 50, 60], [60, 30, 140, 100]])
    gt = InstanceData(bboxes=bboxes, labels=torch.tensor([1, 4]))
    nothing = InstanceData(bboxes=bboxes[:0], labels=gt.labels[:0])
    features = tuple(torch.randn(2, 8, 128 // s, 192 // s) for s in (8, 16, 32, 64))
    features += (torch.randn(2, 8, 1, 2),)
    return head, head(features), [gt, nothing]


def everything(head, outs, gts):
    """Losses (2, N), predicted boxes, labels of all anchors; one image at a time."""
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
def test_ohem_is_the_mean_over_the_minibatches(ratio):
    sampler = dict(type='focal_retinanet.OHEMSampler', num=32, neg_pos_ratio=ratio)
    head, outs, gts = head_and_batch(sampler)
    total, count = 0, 0
    for losses, bboxes, labels in zip(*everything(head, outs, gts), strict=True):
        kept = head.sampler.sample_anchors(
            losses, (labels >= 0) & (labels < 5), labels < 0, bboxes
        )
        total += losses[kept].sum()
        count += kept.sum()
    assert 0 < count <= 64
    loss = head.loss_by_feat(*outs, gts, METAS)['loss_cls'][0]
    torch.testing.assert_close(loss, total / count)
    loss.backward()
    assert head.retina_cls.weight.grad.any()


@pytest.mark.parametrize('threshold', [0.5, 0.7])
def test_ohem_suppresses_as_mmcv(threshold):
    torch.manual_seed(0)
    losses, none = torch.rand(2000), torch.zeros(2000, dtype=torch.bool)
    corner = torch.rand(2000, 2) * 60
    bboxes = torch.cat([corner, corner + 5 + torch.rand(2000, 2) * 35], dim=1)
    kept = OHEMSampler(32, threshold).sample_anchors(losses, none, none, bboxes)
    survivors = nms(bboxes, losses, threshold)[1]
    assert len(survivors) > 32
    assert set(kept.nonzero()[:, 0].tolist()) == set(survivors[:32].tolist())


def test_hard_negatives_are_divided_by_the_positives():
    sampler = dict(type='focal_retinanet.HardNegativeSampler', neg_pos_ratio=3)
    head, outs, gts = head_and_batch(sampler)
    losses, _, labels = everything(head, outs, gts)
    positive = (labels[0] >= 0) & (labels[0] < 5)
    negatives = losses[0][labels[0] == 5].sort(descending=True).values
    # The second image has no positives, so no negatives either.
    expected = losses[0][positive].sum() + negatives[: 3 * positive.sum()].sum()
    loss = head.loss_by_feat(*outs, gts, METAS)['loss_cls'][0]
    torch.testing.assert_close(loss, expected / positive.sum())


@pytest.mark.parametrize('type_', ['OHEMSampler', 'HardNegativeSampler'])
def test_box_loss_is_over_all_positives(type_):
    head, outs, gts = head_and_batch(dict(type=f'focal_retinanet.{type_}'))
    plain, _, _ = head_and_batch(dict(type='PseudoSampler'))
    loss = head.loss_by_feat(*outs, gts, METAS)['loss_bbox'][0]
    expected = plain.loss_by_feat(*outs, gts, METAS)['loss_bbox'][0]
    torch.testing.assert_close(loss, expected)


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
