"""Cherries on trees: crops of 640x640 with many objects of about 20 pixels.

The data root is $CHERRY_ROOT, or data/cherry/ by default.
"""

_base_ = './custom_detection.py'

data_root = '{{$CHERRY_ROOT:data/cherry/}}'
metainfo = dict(classes=('cherry',), palette=[(213, 94, 0)])

_base_.train_pipeline[2].scale = (640, 640)
_base_.test_pipeline[1].scale = (640, 640)
train_dataloader = dict(
    dataset=dict(
        metainfo=metainfo,
        data_root=data_root,
        pipeline=_base_.train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        metainfo=metainfo,
        data_root=data_root,
        pipeline=_base_.test_pipeline,
    ),
)
test_dataloader = val_dataloader
