"""Table 1e, depth 101, scale 700: AP 37.1 in the paper."""

_base_ = './retinanet_r50_fpn_90k_coco-700px.py'

model = dict(
    backbone=dict(depth=101, init_cfg=dict(checkpoint='torchvision://resnet101'))
)
