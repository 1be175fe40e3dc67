"""Table 1e, depth 50, scale 800: AP 35.7 in the paper."""

_base_ = [
    '../_base_/models/retinanet_r50_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_90k.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=10000),
    logger=dict(log_metric_by_epoch=False),
)
log_processor = dict(by_epoch=False)
