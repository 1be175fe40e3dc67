"""Data of one's own, with augmentation for a few hundred images; by iterations.

A config sets the scales of Resize and RandomResize, data_root, the annotation files
and metainfo.
"""

_base_ = './custom_detection.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='RandomResize',
        scale=(480, 360),
        # Several sizes, such as (13 / 15, 17 / 15), lose AP in so few iterations: see
        # the rows smooth-l1 and one-scale of configs/recipes/steps_small-data.py.
        ratio_range=(1.0, 1.0),
        keep_ratio=True,
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(pipeline=train_pipeline),
)
