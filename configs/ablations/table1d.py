"""Table 1d: online hard example mining against the focal loss, ResNet-101."""

base = '../retinanet/retinanet_r101_fpn_90k_coco-600px.py'
cross_entropy = dict(gamma=0.0, alpha=None)


def ohem(num, nms_iou_thr, **changes):
    sampler = dict(type='focal_retinanet.OHEMSampler', num=num, nms_iou_thr=nms_iou_thr)
    return {
        'model.bbox_head.loss_cls': cross_entropy,
        'model.train_cfg.sampler': dict(sampler, **changes),
    }


rows = {
    'ohem_128_nms-.7': ohem(128, 0.7),
    'ohem_256_nms-.7': ohem(256, 0.7),
    'ohem_512_nms-.7': ohem(512, 0.7),
    'ohem_128_nms-.5': ohem(128, 0.5),
    'ohem_256_nms-.5': ohem(256, 0.5),
    'ohem_512_nms-.5': ohem(512, 0.5),
    'ohem-1-3_128_nms-.5': ohem(128, 0.5, neg_pos_ratio=3),
    'ohem-1-3_256_nms-.5': ohem(256, 0.5, neg_pos_ratio=3),
    'ohem-1-3_512_nms-.5': ohem(512, 0.5, neg_pos_ratio=3),
    'fl': {},
}
