"""A slim ResNet-18 from random weights on synthetic shapes: minutes on a CPU."""

_base_ = [
    '../_base_/models/retinanet_r18_fpn.py',
    '../_base_/datasets/shapes_detection.py',
    '../_base_/schedules/schedule_24e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(base_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    bbox_head=dict(
        num_classes=5,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        # Statistics of 8 images would do, but not those of each level.
        norm_cfg=dict(type='GN', num_groups=16, requires_grad=True),
        # Half of the paper's sizes, for objects of 12 to 64 pixels.
        anchor_generator=dict(octave_base_scale=2),
    ),
)

train_cfg = dict(max_epochs=12, val_interval=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=12,
        convert_to_iter_based=True,
    ),
]
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=0.001, weight_decay=0.01)
)
default_hooks = dict(logger=dict(interval=10))
randomness = dict(seed=0)
