"""MobileNetV2 with ImageNet weights on many tiny objects.

The ImageNet weights are $MOBILENETV2, or the file under data/weights/ that
_base_/models/retinanet_mobilenetv2_fpn.py names.
"""

_base_ = [
    '../_base_/models/retinanet_mobilenetv2_fpn.py',
    '../_base_/datasets/cherry_detection.py',
    '../_base_/schedules/schedule_24e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    bbox_head=dict(
        num_classes=1,
        stacked_convs=2,
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        # Half of the paper's sizes: 95 % of the objects are below 32 pixels.
        anchor_generator=dict(octave_base_scale=2),
    )
)

train_cfg = dict(max_epochs=8, val_interval=2)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=8,
        convert_to_iter_based=True,
    ),
]
optim_wrapper = dict(optimizer=dict(lr=0.02), clip_grad=dict(max_norm=35, norm_type=2))
randomness = dict(seed=0)
