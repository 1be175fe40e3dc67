"""MobileNetV2 with ImageNet weights on many tiny objects, trained on crops.

The ImageNet weights are $MOBILENETV2, or the file in data/weights/ that
_base_/models/retinanet_mobilenetv2_fpn.py names.
"""

_base_ = [
    '../_base_/models/retinanet_mobilenetv2_fpn.py',
    '../_base_/datasets/cherry_detection.py',
    '../_base_/schedules/schedule_8e_adamw.py',
    '../_base_/default_runtime.py',
    '../_base_/fast_on_cpu.py',
]

model = dict(
    bbox_head=dict(
        num_classes=1,
        stacked_convs=2,
        # Half of the paper's sizes: 95 % of the objects are below 32 pixels.
        anchor_generator=dict(octave_base_scale=2),
    )
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomCrop', crop_size=(448, 448), allow_negative_crop=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

default_hooks = dict(logger=dict(interval=10))
