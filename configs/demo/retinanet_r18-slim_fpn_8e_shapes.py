"""A slim ResNet-18 from random weights on synthetic shapes: minutes on a CPU."""

_base_ = [
    '../_base_/models/retinanet_r18_fpn.py',
    '../_base_/datasets/shapes_detection.py',
    '../_base_/schedules/schedule_8e_adamw.py',
    '../_base_/default_runtime.py',
    '../_base_/fast_on_cpu.py',
]

model = dict(
    backbone=dict(base_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    bbox_head=dict(
        num_classes=5,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        # Batch norm would mix the statistics of the levels.
        norm_cfg=dict(type='GN', num_groups=16, requires_grad=True),
        # Half of the paper's sizes, for objects of 20 to 64 pixels.
        anchor_generator=dict(octave_base_scale=2),
    ),
    # The short training leaves several classes per shape: keep the best one.
    test_cfg=dict(nms=dict(class_agnostic=True)),
)

optim_wrapper = dict(
    optimizer=dict(lr=0.002),
    paramwise_cfg=None,  # nothing is pre-trained
)
default_hooks = dict(logger=dict(interval=25))
