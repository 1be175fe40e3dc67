"""The model of torchvision's retinanet_resnet50_fpn: AP 36.4 on COCO, by its authors.

For its weights, which tools/convert_weights.py converts. What differs from the paper's
model: P6 from P5, anchors in whole pixels, the L1 loss, 300 detections an image, and
batch norms without epsilon, as in the framework that the weights came from. The
schedule is that of configs/retinanet.
"""

_base_ = '../retinanet/retinanet_r50_fpn_90k_coco-800px.py'

model = dict(
    # 0 in fp32; torch 2.11 refuses 0 itself.
    backbone=dict(norm_cfg=dict(eps=1e-60), init_cfg=None),
    neck=dict(add_extra_convs='on_output'),
    bbox_head=dict(
        anchor_generator=dict(
            _delete_=True, type='focal_retinanet.TorchvisionAnchorGenerator'
        ),
        loss_bbox=dict(_delete_=True, type='L1Loss', loss_weight=1.0),
    ),
    # Boxes without area stay.
    test_cfg=dict(max_per_img=300, min_bbox_size=-1),
)
