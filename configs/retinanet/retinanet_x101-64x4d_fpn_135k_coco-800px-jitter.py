"""Table 2, ResNeXt-101: AP 40.8 in the paper, which gives no cardinality."""

_base_ = './retinanet_r101_fpn_135k_coco-800px-jitter.py'

model = dict(
    backbone=dict(
        type='ResNeXt',
        groups=64,
        base_width=4,
        init_cfg=dict(checkpoint='open-mmlab://resnext101_64x4d'),
    )
)
