"""The model of torchvision's retinanet_resnet50_fpn_v2: AP 41.5 on COCO, by its authors.

For its weights, which tools/convert_weights.py converts. What differs from the paper's
model: group norm in the subnets, GIoU of the decoded boxes as the loss, anchors in
whole pixels, and 300 detections an image. P6 comes from C5, as in the paper. The
schedule is that of configs/retinanet.
"""

_base_ = './retinanet_r50_fpn_torchvision.py'

model = dict(
    backbone=dict(norm_cfg=dict(eps=1e-5)),
    neck=dict(add_extra_convs='on_input'),
    bbox_head=dict(
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        reg_decoded_bbox=True,
        loss_bbox=dict(_delete_=True, type='GIoULoss', loss_weight=1.0),
    ),
)
