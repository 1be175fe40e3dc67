"""The small model of the ablations: minutes per run on a CPU, SGD as in the paper.

Unlike in the paper, gradients are clipped: otherwise the focal loss diverges with
this backbone.
"""

_base_ = './retinanet_mobilenetv2_fpn_8e_cherry-640px.py'

model = dict(
    backbone=dict(frozen_stages=4),
    neck=dict(out_channels=64),
    bbox_head=dict(in_channels=64, feat_channels=64, norm_cfg=None),
)

{step.type: step for step in _base_.train_pipeline}['RandomCrop'].crop_size = (320, 320)
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=_base_.train_pipeline))

train_cfg = dict(max_epochs=4, val_interval=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=4, milestones=[3], gamma=0.1),
]
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=10, norm_type=2),
)
