"""Our losses in mmdet's heads: what a config must say, and what the heads make of it."""

import copy
import inspect
import pickle
from pathlib import Path

import mmdet
import pytest
import torch
from mmdet.models.losses import FocalLoss as MMDetFocalLoss
from mmdet.models.task_modules import AnchorGenerator as MMDetAnchorGenerator
from mmdet.models.task_modules import MaxIoUAssigner as MMDetMaxIoUAssigner
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData

from focal_retinanet.models import (
    AnchorGenerator,
    FocalLoss,
    FocalLossStar,
    HingeLoss,
    MaxIoUAssigner,
)
from focal_retinanet.models.losses import has_own_activation, with_use_sigmoid
from focal_retinanet.ops.focal_loss import sigmoid_focal_loss

CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs'
LOSSES = [FocalLoss, FocalLossStar, HingeLoss]
#: The file of a detector, and where in its model the head is.
DENSE = {
    'retinanet/retinanet_r50_fpn_1x_coco.py': {},
    'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py': {},
    'atss/atss_r50_fpn_1x_coco.py': {},
    'free_anchor/freeanchor_r50_fpn_1x_coco.py': {},
    'sabl/sabl-retinanet_r50_fpn_1x_coco.py': {},
    'reppoints/reppoints-moment_r50_fpn_1x_coco.py': {},
    'tood/tood_r50_fpn_1x_coco.py': {},
    'deformable_detr/deformable-detr_r50_16xb2-50e_coco.py': dict(
        share_pred_layer=True, num_pred_layer=1, as_two_stage=False
    ),
}


class OwnLoss(FocalLoss):
    """As a user may derive one."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


def dense_head(file, loss_cls):
    model = Config.fromfile(CONFIGS / file).model
    cfg = copy.deepcopy(model.bbox_head)
    cfg.update(DENSE[file], train_cfg=model.get('train_cfg'), test_cfg=model.test_cfg)
    cfg.loss_cls = ConfigDict(loss_cls)
    return MMDET_MODELS.build(cfg)


@pytest.mark.parametrize('file', DENSE)
def test_a_config_that_does_not_say_use_sigmoid_is_refused_by_every_head(file):
    with pytest.raises(ValueError, match='FocalLoss must say use_sigmoid'):
        dense_head(file, dict(type='focal_retinanet.FocalLoss', gamma=2.0))
    loss_cls = dict(type='focal_retinanet.FocalLoss', use_sigmoid=True)
    head = dense_head(file, loss_cls)
    assert type(head.loss_cls) is FocalLoss
    assert head.cls_out_channels == head.num_classes == 80


@pytest.mark.parametrize('loss', LOSSES)
@pytest.mark.parametrize('as_type', ['name', 'path', 'class'])
def test_a_config_must_say_use_sigmoid_whatever_its_type_is(loss, as_type):
    type_ = {
        'name': f'focal_retinanet.{loss.__name__}',
        'path': f'{loss.__module__}.{loss.__name__}',  # of a lazy config's dump
        'class': loss,  # a lazy config
    }[as_type]
    with pytest.raises(ValueError, match=f'{loss.__name__} must say use_sigmoid'):
        MMDET_MODELS.build(dict(type=type_, alpha=0.5))
    built = MMDET_MODELS.build(dict(type=type_, use_sigmoid=True, alpha=0.5))
    assert type(built) is loss
    assert (built.use_sigmoid, built.alpha) == (True, 0.5)


def test_a_lazy_config_file_must_say_use_sigmoid(tmp_path):
    file = tmp_path / 'lazy.py'
    file.write_text(
        'from focal_retinanet.models.losses import FocalLoss\n'
        'silent = dict(type=FocalLoss, gamma=2.0)\n'
        'said = dict(type=FocalLoss, use_sigmoid=False)\n'
    )
    cfg = Config.fromfile(file, lazy_import=True)
    with pytest.raises(ValueError, match='must say use_sigmoid'):
        MMDET_MODELS.build(cfg.silent)
    assert not MMDET_MODELS.build(cfg.said).use_sigmoid


def test_a_derived_loss_must_say_it_too_and_python_has_mmdets_default():
    with pytest.raises(ValueError, match='OwnLoss must say use_sigmoid'):
        MMDET_MODELS.build(dict(type=OwnLoss))
    for loss in (*LOSSES, OwnLoss):
        made = loss()
        assert made.use_sigmoid
        for copied in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
            assert copied.__dict__.keys() == made.__dict__.keys()


@pytest.mark.parametrize(
    ('loss_cls', 'expected'),
    [
        (dict(type='focal_retinanet.FocalLoss', gamma=1.0), True),
        (dict(type='focal_retinanet.HingeLoss'), True),
        (dict(type=FocalLossStar), True),
        (dict(type=OwnLoss), True),
        (dict(type='mmdet.FocalLoss'), True),
        (dict(type='CrossEntropyLoss'), False),
        (dict(type='FocalLoss', _scope_='mmdet'), True),
        (dict(type='focal_retinanet.FocalLoss', use_sigmoid=False), False),
        (dict(type='mmdet.L1Loss'), None),
        (dict(type='mmdet.NoSuchLoss'), None),
        (dict(type=lambda gamma, use_sigmoid=True: None), True),
    ],
    ids=str,
)
def test_a_head_may_ask_for_the_default_of_the_loss_itself(loss_cls, expected):
    before = dict(loss_cls)
    found = with_use_sigmoid(loss_cls)
    assert found.get('use_sigmoid') is expected
    assert loss_cls == before
    assert {**found, **loss_cls} == found


@pytest.mark.parametrize(
    ('ours', 'theirs'),
    [
        (FocalLoss, MMDetFocalLoss),
        (MaxIoUAssigner, MMDetMaxIoUAssigner),
        (AnchorGenerator, MMDetAnchorGenerator),
    ],
)
def test_arguments_of_mmdets_classes_keep_their_place_and_default(ours, theirs):
    given = {name: p.default for name, p in parameters(theirs).items()}
    own = parameters(ours)
    passed_on = {p.kind for p in own.values()} >= {2, 4}  # *args and **kwargs
    named = {name: p.default for name, p in own.items() if p.kind not in (2, 4)}
    assert passed_on or list(named)[: len(given)] == list(given)
    for name, default in named.items():
        assert default == given.get(name, default)


def parameters(cls):
    return inspect.signature(cls.__init__).parameters


K = 3
ROI = 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'


def roi_head(**loss_cls):
    """The second stage of Faster R-CNN, small."""
    cfg = Config.fromfile(CONFIGS / ROI).model.roi_head.bbox_head
    cfg.update(num_classes=K, in_channels=4, fc_out_channels=8, roi_feat_size=2)
    cfg.loss_cls = ConfigDict(loss_cls)
    return MMDET_MODELS.build(cfg)


@pytest.fixture
def rois():
    """Images, boxes (8, 4), labels of which two are background, and weights."""
    torch.manual_seed(0)
    corner = torch.rand(8, 2) * 60
    rois = torch.cat([torch.zeros(8, 1), corner, corner + 5 + torch.rand(8, 2) * 30], 1)
    return rois, torch.tensor([0, 2, K, 1, 1, K, 2, 0]), torch.rand(8)


@pytest.mark.parametrize('loss', LOSSES)
def test_roi_heads_have_no_channel_for_the_background(loss, rois):
    rois, labels, weights = rois
    head = roi_head(type=f'focal_retinanet.{loss.__name__}', use_sigmoid=True)
    logits, deltas = head(torch.randn(8, 4, 2, 2))
    assert logits.shape == (8, K)
    losses = head.loss(logits, None, rois, labels, weights, None, None)
    elements = loss(reduction='none')(logits, labels)
    torch.testing.assert_close(
        losses['loss_cls'], (elements * weights[:, None]).sum() / 8
    )
    objects = labels < K
    is_right = logits[objects].argmax(1) == labels[objects]
    torch.testing.assert_close(
        losses['acc_classes'], 100 * is_right.float().mean()[None]
    )

    cfg = ConfigDict(score_thr=0.0, nms=dict(type='nms', iou_threshold=1.0))
    found = head._predict_by_feat_single(
        rois,
        logits,
        deltas,
        dict(img_shape=(100, 100)),
        rcnn_test_cfg=ConfigDict(cfg, max_per_img=100),
    )
    assert set(found.labels.tolist()) == set(range(K))
    expected = logits.sigmoid().flatten().sort(descending=True).values
    torch.testing.assert_close(found.scores, expected)

    sampled = InstanceData(pos_is_gt=torch.zeros(8))
    (refined,) = head.refine_bboxes(
        [sampled],
        dict(
            rois=rois, cls_score=logits, bbox_pred=deltas, bbox_targets=(labels, 0, 0)
        ),
        [dict(img_shape=(100, 100))],
    )
    assert refined.bboxes.shape == (8, 4)


def test_roi_heads_of_a_softmax_keep_the_background():
    head = roi_head(type='focal_retinanet.FocalLoss', use_sigmoid=False)
    assert head.fc_cls.out_features == K + 1


def test_the_background_of_a_roi_head_teaches_every_class_no(rois):
    """Where mmdet's own focal loss trains it as one more class."""
    logits = torch.zeros(1, K, requires_grad=True)
    head = roi_head(type='focal_retinanet.FocalLoss', use_sigmoid=True)
    background = torch.tensor([K])
    loss = head.loss(logits, None, None, background, torch.ones(1), None, None)
    expected = sigmoid_focal_loss(logits, background).sum()
    torch.testing.assert_close(loss['loss_cls'], expected)
    loss['loss_cls'].backward()
    assert (logits.grad > 0).all()
    theirs = roi_head(type='FocalLoss', use_sigmoid=True)
    assert theirs.fc_cls.out_features == K + 1


@pytest.mark.parametrize(
    'file', ['atss/atss_r50_fpn_1x_coco.py', 'retinanet/retinanet_r50_fpn_1x_coco.py']
)
def test_dense_heads_find_what_they_find_with_mmdets_loss(file):
    found = []
    for prefix in ('', 'focal_retinanet.'):
        head = dense_head(file, dict(type=prefix + 'FocalLoss', use_sigmoid=True))
        torch.manual_seed(0)
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
        features = [torch.randn(1, 256, 64 // s, 64 // s) for s in (8, 16, 32, 64)]
        features.append(torch.randn(1, 256, 1, 1))
        metas = [dict(img_shape=(64, 64), scale_factor=(1, 1))]
        with torch.no_grad():
            found += head.predict_by_feat(*head(features), batch_img_metas=metas)
    assert len(found[0])
    for key in ('bboxes', 'scores', 'labels'):
        assert torch.equal(found[0][key], found[1][key])


def test_a_loss_with_scores_of_its_own_is_told_from_one_of_sigmoids():
    class OwnScores(FocalLoss):
        def get_activation(self, cls_score):
            return cls_score

    class TheirsLoss(torch.nn.Module):
        custom_cls_channels = True

        def get_activation(self, cls_score):
            return cls_score

    assert not has_own_activation(FocalLoss())
    assert not has_own_activation(FocalLoss(use_sigmoid=False))
    assert not has_own_activation(OwnLoss())
    assert not has_own_activation(MMDetFocalLoss())
    assert has_own_activation(OwnScores())
    assert has_own_activation(TheirsLoss())
