"""Table 1e, depth 101, scale 800: AP 37.8 in the paper."""

_base_ = './retinanet_r50_fpn_90k_coco-800px.py'

model = dict(
    backbone=dict(depth=101, init_cfg=dict(checkpoint='torchvision://resnet101'))
)
