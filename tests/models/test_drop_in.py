"""Drop-in use: our losses in mmdet's heads, and arguments of mmdet's classes."""

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

from focal_retinanet.models import (
    AnchorGenerator,
    FocalLoss,
    FocalLossStar,
    HingeLoss,
    MaxIoUAssigner,
)
from focal_retinanet.models.losses import with_use_sigmoid

CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs'
LOSSES = [FocalLoss, FocalLossStar, HingeLoss]
#: Config file of each detector, and changes of its head.
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
    """A user's loss."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


def dense_head(file, loss_cls):
    model = Config.fromfile(CONFIGS / file).model
    cfg = copy.deepcopy(model.bbox_head)
    cfg.update(DENSE[file], train_cfg=model.get('train_cfg'), test_cfg=model.test_cfg)
    cfg.loss_cls = ConfigDict(loss_cls)
    return MMDET_MODELS.build(cfg)


@pytest.mark.parametrize('file', DENSE)
def test_config_without_use_sigmoid_is_refused_in_every_head(file):
    with pytest.raises(ValueError, match='FocalLoss must set use_sigmoid'):
        dense_head(file, dict(type='focal_retinanet.FocalLoss', gamma=2.0))
    loss_cls = dict(type='focal_retinanet.FocalLoss', use_sigmoid=True)
    head = dense_head(file, loss_cls)
    assert type(head.loss_cls) is FocalLoss
    assert head.cls_out_channels == head.num_classes == 80


@pytest.mark.parametrize('loss', LOSSES)
@pytest.mark.parametrize('as_type', ['name', 'path', 'class'])
def test_config_must_set_use_sigmoid_whatever_its_type_is(loss, as_type):
    type_ = {
        'name': f'focal_retinanet.{loss.__name__}',
        'path': f'{loss.__module__}.{loss.__name__}',  # as in a dumped lazy config
        'class': loss,  # as in a lazy config
    }[as_type]
    with pytest.raises(ValueError, match=f'{loss.__name__} must set use_sigmoid'):
        MMDET_MODELS.build(dict(type=type_, alpha=0.5))
    built = MMDET_MODELS.build(dict(type=type_, use_sigmoid=True, alpha=0.5))
    assert type(built) is loss
    assert (built.use_sigmoid, built.alpha) == (True, 0.5)


def test_lazy_config_file_must_set_use_sigmoid(tmp_path):
    file = tmp_path / 'lazy.py'
    file.write_text(
        'from focal_retinanet.models.losses import FocalLoss\n'
        'silent = dict(type=FocalLoss, gamma=2.0)\n'
        'said = dict(type=FocalLoss, use_sigmoid=False)\n'
    )
    cfg = Config.fromfile(file, lazy_import=True)
    with pytest.raises(ValueError, match='must set use_sigmoid'):
        MMDET_MODELS.build(cfg.silent)
    assert not MMDET_MODELS.build(cfg.said).use_sigmoid


def test_derived_loss_must_set_it_too_but_python_has_a_default():
    with pytest.raises(ValueError, match='OwnLoss must set use_sigmoid'):
        MMDET_MODELS.build(dict(type=OwnLoss))
    for loss in (*LOSSES, OwnLoss):
        made = loss()
        assert made.use_sigmoid
        for copied in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
            assert copied.__dict__.keys() == made.__dict__.keys()


def make_own_loss(gamma, use_sigmoid=True):
    return OwnLoss(gamma, use_sigmoid)


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
        (dict(type=make_own_loss), True),
    ],
    # The address of a function differs between processes.
    ids=lambda value: str(value).partition(' at 0x')[0],
)
def test_use_sigmoid_is_set_to_the_default_of_the_loss(loss_cls, expected):
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
def test_arguments_keep_their_position_and_default_in_mmdet(ours, theirs):
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
    """RoIs (8, 5), labels (two of them background) and weights."""
    torch.manual_seed(0)
    corner = torch.rand(8, 2) * 60
    rois = torch.cat([torch.zeros(8, 1), corner, corner + 5 + torch.rand(8, 2) * 30], 1)
    return rois, torch.tensor([0, 2, K, 1, 1, K, 2, 0]), torch.rand(8)


def test_a_roi_head_trains_as_with_mmdets_loss(rois):
    """The head has a background channel with any loss, so checkpoints fit."""
    rois, labels, weights = rois
    results = []
    for prefix in ('', 'focal_retinanet.'):
        head = roi_head(type=prefix + 'FocalLoss', use_sigmoid=True)
        assert head.fc_cls.out_features == K + 1
        torch.manual_seed(0)
        logits = torch.randn(8, K + 1)
        results.append(head.loss(logits, None, rois, labels, weights, None, None))
    torch.testing.assert_close(results[0]['loss_cls'], results[1]['loss_cls'])


@pytest.mark.parametrize(
    'file', ['atss/atss_r50_fpn_1x_coco.py', 'retinanet/retinanet_r50_fpn_1x_coco.py']
)
def test_dense_heads_detect_as_with_mmdets_loss(file):
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
