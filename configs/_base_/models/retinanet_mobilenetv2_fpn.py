"""A small RetinaNet for CPUs: MobileNetV2, and 128 channels in FPN and subnets.

The backbone starts from ImageNet weights: $MOBILENETV2, or
``model.backbone.init_cfg.checkpoint``. Their batch norm is folded into the
convolutions, so it stays in evaluation mode.
"""

_base_ = './retinanet_r50_fpn.py'

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        out_indices=(2, 4, 7),  # C3, C4, C5
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='{{$MOBILENETV2:data/weights/mobilenet_v2_imagenet_bnfolded.pth}}',
        ),
    ),
    neck=dict(in_channels=[32, 96, 1280], out_channels=128, start_level=0),
    bbox_head=dict(
        in_channels=128,
        feat_channels=128,
        # Group norm speeds up the training of the new subnets.
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
    ),
)
