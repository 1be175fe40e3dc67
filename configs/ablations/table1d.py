"""Table 1d: online hard example mining against the focal loss, ResNet-101."""

base = '../retinanet/retinanet_r101_fpn_90k_coco-600px.py'
cross_entropy = dict(gamma=0.0, alpha=None)
rows = {
    'ohem_128_nms-.7': {
        'model.bbox_head.loss_cls': cross_entropy,
        'model.train_cfg.sampler': dict(
            type='focal_retinanet.OHEMSampler', num=128, nms_iou_thr=0.7
        ),
    },
    'ohem_256_nms-.7': {
        'model.bbox_head.loss_cls': cross_entropy,
        'model.train_cfg.sampler': dict(
            type='focal_retinanet.OHEMSampler', num=256, nms_iou_thr=0.7
        ),
    },
    'ohem_512_nms-.7': {
        'model.bbox_head.loss_cls': cross_entropy,
        'model.train_cfg.sampler': dict(
            type='focal_retinanet.OHEMSampler', num=512, nms_iou_thr=0.7
        ),
    },
    'ohem_128_nms-.5': {
        'model.bbox_head.loss_cls': cross_entropy,
        'model.train_cfg.sampler': dict(
            type='focal_retinanet.OHEMSampler', num=128, nms_iou_thr=0.5
        ),
    },
    'ohem_256_nms-.5': {
        'model.bbox_head.loss_cls': cross_entropy,
        'model.train_cfg.sampler': dict(
            type='focal_retinanet.OHEMSampler', num=256, nms_iou_thr=0.5
        ),
    },
    'ohem_512_nms-.5': {
        'model.bbox_head.loss_cls': cross_entropy,
        'model.train_cfg.sampler': dict(
            type='focal_retinanet.OHEMSampler', num=512, nms_iou_thr=0.5
        ),
    },
    'ohem-1-3_128_nms-.5': {
        'model.bbox_head.loss_cls': cross_entropy,
        'model.train_cfg.sampler': dict(
            type='focal_retinanet.OHEMSampler',
            num=128,
            nms_iou_thr=0.5,
            neg_pos_ratio=3,
        ),
    },
    'ohem-1-3_256_nms-.5': {
        'model.bbox_head.loss_cls': cross_entropy,
        'model.train_cfg.sampler': dict(
            type='focal_retinanet.OHEMSampler',
            num=256,
            nms_iou_thr=0.5,
            neg_pos_ratio=3,
        ),
    },
    'ohem-1-3_512_nms-.5': {
        'model.bbox_head.loss_cls': cross_entropy,
        'model.train_cfg.sampler': dict(
            type='focal_retinanet.OHEMSampler',
            num=512,
            nms_iou_thr=0.5,
            neg_pos_ratio=3,
        ),
    },
    'fl': {},
}
