"""Six classes of defects on bare circuit boards, MobileNetV2 with ImageNet weights.

The data root is $PCB_ROOT, or data/pcb/ by default. The ImageNet weights are
$MOBILENETV2, or the file in data/weights/ that
_base_/models/retinanet_mobilenetv2_fpn.py names.
"""

_base_ = [
    '../_base_/models/retinanet_mobilenetv2_fpn.py',
    '../_base_/datasets/custom_detection.py',
    '../_base_/schedules/schedule_8e_adamw.py',
    '../_base_/default_runtime.py',
    '../_base_/fast_on_cpu.py',
]

data_root = '{{$PCB_ROOT:data/pcb/}}'
metainfo = dict(classes=('open', 'short', 'mousebite', 'spur', 'copper', 'pin-hole'))

model = dict(
    bbox_head=dict(
        num_classes=6,
        # Half of the paper's sizes: the median side is 34 pixels.
        anchor_generator=dict(octave_base_scale=2),
    )
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='RandomChoiceResize',
        scales=[(576, 576), (640, 640), (704, 704)],
        keep_ratio=True,
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomFlip', prob=0.5, direction='vertical'),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackDetInputs'),
]
{step.type: step for step in _base_.test_pipeline}['Resize'].scale = (640, 640)
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        pipeline=train_pipeline,
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

default_hooks = dict(logger=dict(interval=10))
