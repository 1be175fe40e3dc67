"""RetinaNet with ResNet-18-FPN, trained from random weights."""

_base_ = './retinanet_r50_fpn.py'

model = dict(
    backbone=dict(
        depth=18,
        # Nothing is pre-trained, so nothing is frozen.
        frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
        init_cfg=None,  # He initialisation
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
