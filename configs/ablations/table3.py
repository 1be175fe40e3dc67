"""Table 3 (appendix A): the focal loss and its variant FL*."""

base = '../retinanet/retinanet_r50_fpn_90k_coco-600px.py'
rows = {
    'ce': {'model.bbox_head.loss_cls': dict(gamma=0.0, alpha=0.75)},
    'fl': {},
    'fl-star_gamma-2_beta-1': {
        'model.bbox_head.loss_cls': dict(
            type='focal_retinanet.FocalLossStar', gamma=2.0, beta=1.0
        )
    },
    'fl-star_gamma-4_beta-0': {
        'model.bbox_head.loss_cls': dict(
            type='focal_retinanet.FocalLossStar', gamma=4.0, beta=0.0
        )
    },
}
