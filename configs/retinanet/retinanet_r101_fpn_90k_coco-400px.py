"""Table 1e, depth 101, scale 400: AP 31.9 in the paper."""

_base_ = './retinanet_r50_fpn_90k_coco-400px.py'

model = dict(
    backbone=dict(depth=101, init_cfg=dict(checkpoint='torchvision://resnet101'))
)
