"""The recipe for CPUs: ImageNet weights, larger images, more augmentation.

The ImageNet weights are $MOBILENETV2, or the file in data/weights/ that
_base_/models/retinanet_mobilenetv2_fpn.py names.
"""

_base_ = [
    '../_base_/models/retinanet_mobilenetv2_fpn.py',
    '../_base_/datasets/bccd_detection.py',
    '../_base_/schedules/schedule_8e_adamw.py',
    '../_base_/default_runtime.py',
    '../_base_/fast_on_cpu.py',
]

model = dict(bbox_head=dict(num_classes=3))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='RandomChoiceResize',
        scales=[(416, 312), (480, 360), (544, 408)],
        keep_ratio=True,
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomFlip', prob=0.5, direction='vertical'),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackDetInputs'),
]
{step.type: step for step in _base_.test_pipeline}['Resize'].scale = (480, 360)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader

default_hooks = dict(logger=dict(interval=10))
