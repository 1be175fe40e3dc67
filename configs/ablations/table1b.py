"""Table 1b: gamma of the focal loss, each value with its best alpha."""

base = '../retinanet/retinanet_r50_fpn_90k_coco-600px.py'
rows = {
    'gamma-0': {'model.bbox_head.loss_cls': dict(gamma=0.0, alpha=0.75)},
    'gamma-0.1': {'model.bbox_head.loss_cls': dict(gamma=0.1, alpha=0.75)},
    'gamma-0.2': {'model.bbox_head.loss_cls': dict(gamma=0.2, alpha=0.75)},
    'gamma-0.5': {'model.bbox_head.loss_cls': dict(gamma=0.5, alpha=0.50)},
    'gamma-1.0': {'model.bbox_head.loss_cls': dict(gamma=1.0, alpha=0.25)},
    'gamma-2.0': {'model.bbox_head.loss_cls': dict(gamma=2.0, alpha=0.25)},
    'gamma-5.0': {'model.bbox_head.loss_cls': dict(gamma=5.0, alpha=0.25)},
}
