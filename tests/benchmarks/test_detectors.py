"""mmdet's equivalent of a config of ours."""

from mmengine.config import ConfigDict

from harness.detectors import stock_config


def test_types_are_replaced_and_own_arguments_dropped():
    ours = ConfigDict(
        type='mmdet.RetinaNet',
        backbone=dict(type='ResNet', depth=18),
        bbox_head=dict(
            type='focal_retinanet.RetinaHead',
            pi=0.01,
            loss_cls=dict(type='focal_retinanet.FocalLoss', gamma=2.0),
            parts=[dict(type='focal_retinanet.AnchorGenerator')],
        ),
        train_cfg=dict(assigner=dict(type='focal_retinanet.MaxIoUAssigner')),
    )
    before = ours.to_dict()
    stock = stock_config(ours)
    assert stock == dict(
        type='mmdet.RetinaNet',
        backbone=dict(type='ResNet', depth=18),
        bbox_head=dict(
            type='mmdet.RetinaHead',
            # mmdet's head would take it for a softmax otherwise.
            loss_cls=dict(type='mmdet.FocalLoss', gamma=2.0, use_sigmoid=True),
            parts=[dict(type='mmdet.AnchorGenerator')],
        ),
        train_cfg=dict(assigner=dict(type='mmdet.MaxIoUAssigner')),
    )
    assert isinstance(stock, ConfigDict)
    assert ours.to_dict() == before
