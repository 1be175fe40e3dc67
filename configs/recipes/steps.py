"""From the paper to torchvision's second recipe on COCO: each row adds one step.

The last step before `atss` is retinanet_r50_fpn_26e_coco-multiscale.py; `atss` has the
assigner of ATSS (arXiv:1912.02424) in place of the paper's thresholds. Not measured.
"""

base = '../retinanet/retinanet_r50_fpn_90k_coco-800px.py'

gn = {
    'model.bbox_head.norm_cfg': dict(type='GN', num_groups=32, requires_grad=True),
}
giou = {
    **gn,
    'model.bbox_head.reg_decoded_bbox': True,
    'model.bbox_head.loss_bbox': dict(_delete_=True, type='GIoULoss', loss_weight=1.0),
}
adamw = {
    **giou,
    'optim_wrapper.optimizer': dict(
        _delete_=True, type='AdamW', lr=1e-4, weight_decay=0.05
    ),
}
no_norm_decay = {**adamw, 'optim_wrapper.paramwise_cfg': dict(norm_decay_mult=0.0)}
bn = {
    **no_norm_decay,
    'model.backbone.norm_cfg.requires_grad': True,
    'model.backbone.norm_eval': False,
    'sync_bn': 'torch',
}
multi_scale = {
    **bn,
    # A shorter side of 480 to 800 pixels.
    'train_dataloader.dataset.pipeline.2': dict(
        type='RandomResize', ratio_range=(0.6, 1.0)
    ),
}
weights = {
    **multi_scale,
    'model.backbone.init_cfg.checkpoint': 'torchvision://resnet50.imagenet1k_v2',
}
epoch = 7330  # iterations: 117,266 images with objects, 16 at a time
longer = {
    **weights,
    'train_cfg.max_iters': 26 * epoch,
    'train_cfg.val_interval': epoch,
    'param_scheduler': [
        dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
        dict(
            type='MultiStepLR',
            by_epoch=False,
            begin=0,
            end=26 * epoch,
            milestones=[16 * epoch, 22 * epoch],
            gamma=0.1,
        ),
    ],
    'default_hooks.checkpoint.interval': epoch,
}
atss = {
    **longer,
    'model.train_cfg.assigner': dict(_delete_=True, type='ATSSAssigner', topk=9),
}

rows = {
    'paper': {},
    'gn': gn,
    'giou': giou,
    'adamw': adamw,
    'no-norm-decay': no_norm_decay,
    'bn': bn,
    'multi-scale': multi_scale,
    'weights': weights,
    '26e': longer,
    'atss': atss,
}
