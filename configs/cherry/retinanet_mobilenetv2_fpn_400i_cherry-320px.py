"""Cherries in crops of 320x320 for the steps of configs/recipes: minutes a run."""

_base_ = '../recipes/small-data_cpu.py'

data_root = '{{$CHERRY_ROOT:data/cherry/}}'
metainfo = dict(classes=('cherry',))

model = dict(
    bbox_head=dict(
        num_classes=1,
        # Half of the paper's sizes, as the objects are small.
        anchor_generator=dict(octave_base_scale=2),
    )
)

{step.type: step for step in _base_.train_pipeline}['RandomResize'].scale = (640, 640)
{step.type: step for step in _base_.test_pipeline}['Resize'].scale = (640, 640)
_base_.train_pipeline.insert(
    [step.type for step in _base_.train_pipeline].index('RandomFlip'),
    dict(type='RandomCrop', crop_size=(320, 320), allow_negative_crop=True),
)
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        pipeline=_base_.train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        pipeline=_base_.test_pipeline,
    )
)
test_dataloader = val_dataloader

# Validated once, at the end.
train_cfg = dict(val_interval=400)
default_hooks = dict(checkpoint=dict(interval=400))
