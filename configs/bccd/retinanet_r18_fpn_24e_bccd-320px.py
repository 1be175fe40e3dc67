"""ResNet-18 from random weights at 320x240, with mmdet's usual recipe."""

_base_ = [
    '../_base_/models/retinanet_r18_fpn.py',
    '../_base_/datasets/bccd_detection.py',
    '../_base_/schedules/schedule_24e.py',
    '../_base_/default_runtime.py',
    '../_base_/fast_on_cpu.py',
]

model = dict(bbox_head=dict(num_classes=3))

default_hooks = dict(logger=dict(interval=10))
