"""Synthetic shapes of any density, which the protocol of configs/ablations trains on.

tools/make_shapes.py draws them into $SHAPES_ROOT, which is data/shapes/ by default.
"""

_base_ = '../recipes/small-data_cpu.py'

data_root = '{{$SHAPES_ROOT:data/shapes/}}'
metainfo = dict(classes=('circle', 'square', 'triangle', 'star', 'cross'))

model = dict(
    bbox_head=dict(
        num_classes=5,
        # Half of the paper's sizes, for objects of 16 to 40 pixels.
        anchor_generator=dict(octave_base_scale=2),
    )
)

{step.type: step for step in _base_.train_pipeline}['RandomResize'].scale = (224, 224)
{step.type: step for step in _base_.test_pipeline}['Resize'].scale = (224, 224)
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        data_prefix=dict(img='images/train/'),
        pipeline=_base_.train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        data_prefix=dict(img='images/val/'),
        pipeline=_base_.test_pipeline,
    )
)
test_dataloader = val_dataloader

# Validated once, at the end.
train_cfg = dict(val_interval=400)
default_hooks = dict(checkpoint=dict(interval=400))
