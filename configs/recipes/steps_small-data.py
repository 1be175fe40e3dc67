"""The same steps for small data on a CPU: each row adds one to the row above.

`--base` is any config with small-data_cpu.py as its base, such as those that
new_config.py writes; its schedule and its images are the same for all rows. The batch
norms of MobileNetV2 stay as they are, since its weights may have them folded.
"""

base = '../bccd/retinanet_mobilenetv2_fpn_400i_bccd-320px.py'

paper = {
    'model.bbox_head.norm_cfg': None,
    'model.bbox_head.reg_decoded_bbox': False,
    'model.bbox_head.loss_bbox': dict(
        _delete_=True, type='SmoothL1Loss', beta=1 / 9, loss_weight=1.0
    ),
    'model.train_cfg.assigner': dict(
        _delete_=True,
        type='focal_retinanet.MaxIoUAssigner',
        pos_iou_thr=0.5,
        neg_iou_thr=0.4,
        min_pos_iou=0,
        ignore_iof_thr=-1,
    ),
    # The paper's for 16 images, in proportion to the 4 here.
    'optim_wrapper.optimizer': dict(
        _delete_=True, type='SGD', lr=0.0025, momentum=0.9, weight_decay=1e-4
    ),
    'optim_wrapper.paramwise_cfg': None,
    'train_dataloader.dataset.pipeline.2.ratio_range': (1.0, 1.0),
}
gn = {
    **paper,
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
        _delete_=True, type='AdamW', lr=0.001, weight_decay=0.05
    ),
    # Pre-trained weights need smaller steps than new ones.
    'optim_wrapper.paramwise_cfg': dict(custom_keys={'backbone': dict(lr_mult=0.2)}),
}
no_norm_decay = {
    **adamw,
    'optim_wrapper.paramwise_cfg': dict(
        custom_keys={'backbone': dict(lr_mult=0.2)}, norm_decay_mult=0.0
    ),
}
multi_scale = {
    **no_norm_decay,
    'train_dataloader.dataset.pipeline.2.ratio_range': (13 / 15, 17 / 15),
}
atss = {
    **multi_scale,
    'model.train_cfg.assigner': dict(_delete_=True, type='ATSSAssigner', topk=9),
}
# Whether GIoU still helps with the other steps.
smooth_l1 = {
    **multi_scale,
    'model.bbox_head.reg_decoded_bbox': False,
    'model.bbox_head.loss_bbox': paper['model.bbox_head.loss_bbox'],
}

# Whether several sizes help at all in so few iterations.
one_scale = {
    **smooth_l1,
    'train_dataloader.dataset.pipeline.2.ratio_range': (1.0, 1.0),
}

rows = {
    'paper': paper,
    'gn': gn,
    'giou': giou,
    'adamw': adamw,
    'no-norm-decay': no_norm_decay,
    'multi-scale': multi_scale,
    'smooth-l1': smooth_l1,
    'one-scale': one_scale,
    'atss': atss,
}
