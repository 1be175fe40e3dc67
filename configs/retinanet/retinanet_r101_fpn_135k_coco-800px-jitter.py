"""Table 2, ResNet-101: scale jitter and 1.5x the schedule; AP 39.1 in the paper."""

_base_ = './retinanet_r101_fpn_90k_coco-800px.py'

# The range of the paper's release; the paper gives none.
_base_.train_pipeline[2] = dict(
    type='RandomChoiceResize',
    scales=[
        (1333, 640),
        (1333, 672),
        (1333, 704),
        (1333, 736),
        (1333, 768),
        (1333, 800),
    ],
    keep_ratio=True,
)
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
train_cfg = dict(max_iters=135000)
_base_.param_scheduler[1].update(end=135000, milestones=[90000, 120000])
