"""Table 2, ResNet-101: scale jitter and 1.5x the schedule; AP 39.1 in the paper."""

_base_ = './retinanet_r101_fpn_90k_coco-800px.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    # The paper gives no range; this is the range of its release.
    dict(
        type='RandomChoiceResize',
        scales=[(1333, shorter) for shorter in range(640, 801, 32)],
        keep_ratio=True,
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_iters=135000)
{step.type: step for step in _base_.param_scheduler}['MultiStepLR'].update(
    end=135000, milestones=[90000, 120000]
)
