"""Hooks, visualizer and logging of every run."""

default_scope = 'mmdet'
# mmdet's own tools use this runner, too.
runner_type = 'focal_retinanet.Runner'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook',
        interval=1,
        max_keep_ckpts=2,
        save_best='coco/bbox_mAP',
        rule='greater',
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='focal_retinanet.DetVisualizationHook'),
)
custom_hooks = [
    # A resumed run gives the same weights as an uninterrupted one.
    dict(type='focal_retinanet.IterationSeedHook'),
    # pos_share, easy_neg_share, hard_neg_share of the classification loss.
    dict(type='focal_retinanet.LossShareHook'),
]

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(
    type='focal_retinanet.DetVisualizer', vis_backends=vis_backends, name='visualizer'
)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)

log_level = 'INFO'
load_from = None
resume = False
