"""Synthetic shapes, 224x224, made by tools/make_shapes.py (or `make demo`).

The data root is $SHAPES_ROOT, or data/shapes/ by default.
"""

_base_ = './custom_detection.py'

data_root = '{{$SHAPES_ROOT:data/shapes/}}'
metainfo = dict(
    classes=('circle', 'square', 'triangle', 'star', 'cross'),
    palette=[
        (0, 114, 178),
        (230, 159, 0),
        (0, 158, 115),
        (204, 121, 167),
        (213, 94, 0),
    ],
)

{step.type: step for step in _base_.train_pipeline}['Resize'].scale = (224, 224)
{step.type: step for step in _base_.test_pipeline}['Resize'].scale = (224, 224)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        metainfo=metainfo,
        data_root=data_root,
        data_prefix=dict(img='images/train/'),
        pipeline=_base_.train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        metainfo=metainfo,
        data_root=data_root,
        data_prefix=dict(img='images/val/'),
        pipeline=_base_.test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(classwise=True)
test_evaluator = val_evaluator
