"""Cherries on trees: crops of 640x640 with many objects of about 20 pixels.

The data root is $CHERRY_ROOT, or data/cherry/ by default.
"""

_base_ = './custom_detection.py'

data_root = '{{$CHERRY_ROOT:data/cherry/}}'
metainfo = dict(classes=('cherry',), palette=[(213, 94, 0)])

{step.type: step for step in _base_.train_pipeline}['Resize'].scale = (640, 640)
{step.type: step for step in _base_.test_pipeline}['Resize'].scale = (640, 640)
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
