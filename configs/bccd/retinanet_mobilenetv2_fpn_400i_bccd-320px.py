"""Blood cells at 320x240 for the steps of configs/recipes: minutes a run."""

_base_ = '../recipes/small-data_cpu.py'

data_root = '{{$BCCD_ROOT:data/bccd/}}'
metainfo = dict(classes=('RBC', 'WBC', 'Platelets'))

model = dict(
    bbox_head=dict(
        num_classes=3,
        # Half of the paper's sizes, for the platelets.
        anchor_generator=dict(octave_base_scale=2),
    )
)

{step.type: step for step in _base_.train_pipeline}['RandomResize'].scale = (320, 240)
{step.type: step for step in _base_.test_pipeline}['Resize'].scale = (320, 240)
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
