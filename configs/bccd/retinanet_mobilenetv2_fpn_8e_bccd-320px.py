"""The small model of the ablations on blood cells: two minutes per run on a CPU.

It has the model, optimizer and number of iterations of
configs/cherry/retinanet_mobilenetv2_fpn_4e_cherry-320px.py.
"""

_base_ = [
    '../_base_/models/retinanet_mobilenetv2_fpn.py',
    '../_base_/datasets/bccd_detection.py',
    '../_base_/schedules/schedule_8e_adamw.py',
    '../_base_/default_runtime.py',
    '../_base_/fast_on_cpu.py',
]

model = dict(
    backbone=dict(frozen_stages=4),
    neck=dict(out_channels=64),
    bbox_head=dict(
        num_classes=3,
        in_channels=64,
        stacked_convs=2,
        feat_channels=64,
        norm_cfg=None,
        # Half of the paper's sizes, for the platelets.
        anchor_generator=dict(octave_base_scale=2),
    ),
)

train_dataloader = dict(batch_size=8)

train_cfg = dict(val_interval=8)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=8, milestones=[6], gamma=0.1),
]
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=10, norm_type=2),
)

default_hooks = dict(logger=dict(interval=10))
