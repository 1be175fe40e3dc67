"""torchvision's recipe for its second RetinaNet: AP 41.5 on COCO, by its authors.

Group norm in the subnets, GIoU of the decoded boxes, AdamW without decay of the norms,
trained batch norms, several scales, 26 epochs of 16 images (8 GPUs), and ImageNet
weights of torchvision's own second recipe. The model is the paper's otherwise;
torchvision rounds the anchors and keeps 300 detections, see configs/torchvision.

Each step from the paper to here is a row of steps.py. Not measured.
"""

_base_ = '../retinanet/retinanet_r50_fpn_90k_coco-800px.py'

model = dict(
    backbone=dict(
        norm_cfg=dict(requires_grad=True),
        norm_eval=False,
        init_cfg=dict(checkpoint='torchvision://resnet50.imagenet1k_v2'),
    ),
    bbox_head=dict(
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        reg_decoded_bbox=True,
        loss_bbox=dict(_delete_=True, type='GIoULoss', loss_weight=1.0),
    ),
)
sync_bn = 'torch'  # the batch norms of all GPUs share their statistics

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    # A shorter side of 480 to 800 pixels, where torchvision has 11 sizes.
    dict(
        type='RandomResize',
        scale=(1333, 800),
        ratio_range=(0.6, 1.0),
        keep_ratio=True,
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)

epoch = 7330  # iterations: 117,266 images with objects, 16 at a time
train_cfg = dict(max_iters=26 * epoch, val_interval=epoch)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=26 * epoch,
        milestones=[16 * epoch, 22 * epoch],
        gamma=0.1,
    ),
]
default_hooks = dict(checkpoint=dict(interval=epoch))
