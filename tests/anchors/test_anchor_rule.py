"""Detectors with and without anchors that an IoU rule assigns."""

import pytest
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from torch import nn

from focal_retinanet.anchors.assignment import AnchorRule, NoAnchorsError


@pytest.fixture(autouse=True)
def mmdet_scope():
    DefaultScope.get_instance('test', scope_name='mmdet')


def detector(name, **config):
    model = nn.Module()
    setattr(
        model, name, MODELS.build(ConfigDict(num_classes=1, in_channels=8, **config))
    )
    return model


IOU = dict(type='MaxIoUAssigner', pos_iou_thr=0.7, neg_iou_thr=0.3)


def test_rule_of_a_detector():
    train_cfg = dict(assigner=IOU, allowed_border=0, pos_weight=-1)
    got = AnchorRule.of_detector(
        detector('rpn_head', type='RPNHead', train_cfg=train_cfg)
    )
    assert got.key == 'model.rpn_head.anchor_generator'
    assert got.assigner.pos_iou_thr == 0.7
    assert got.allowed_border == 0
    assert got.strides == [4, 8, 16, 32, 64]


def test_detectors_without_max_iou_anchors():
    with pytest.raises(NoAnchorsError, match='FCOSHead has no anchors'):
        AnchorRule.of_detector(detector('bbox_head', type='FCOSHead'))
    atss = dict(type='ATSSAssigner', topk=9)
    head = detector('bbox_head', type='RetinaHead', train_cfg=dict(assigner=atss))
    with pytest.raises(NoAnchorsError, match='anchors by ATSSAssigner'):
        AnchorRule.of_detector(head)
    with pytest.raises(NoAnchorsError, match='Module has no dense head'):
        AnchorRule.of_detector(nn.Module())
