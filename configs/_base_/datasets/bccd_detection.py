"""BCCD: blood cells in microscope images of 640x480, resized to 320x240.

The data root is $BCCD_ROOT, or data/bccd/ by default.
"""

_base_ = './custom_detection.py'

data_root = '{{$BCCD_ROOT:data/bccd/}}'
metainfo = dict(
    classes=('RBC', 'WBC', 'Platelets'),
    palette=[(220, 20, 60), (65, 105, 225), (255, 191, 0)],
)

{step.type: step for step in _base_.train_pipeline}['Resize'].scale = (320, 240)
{step.type: step for step in _base_.test_pipeline}['Resize'].scale = (320, 240)
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
