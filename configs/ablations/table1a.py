"""Table 1a: alpha of cross entropy, which is the focal loss with gamma = 0."""

base = '../retinanet/retinanet_r50_fpn_90k_coco-600px.py'
rows = {
    'alpha-.10': {'model.bbox_head.loss_cls': dict(gamma=0.0, alpha=0.10)},
    'alpha-.25': {'model.bbox_head.loss_cls': dict(gamma=0.0, alpha=0.25)},
    'alpha-.50': {'model.bbox_head.loss_cls': dict(gamma=0.0, alpha=0.50)},
    'alpha-.75': {'model.bbox_head.loss_cls': dict(gamma=0.0, alpha=0.75)},
    'alpha-.90': {'model.bbox_head.loss_cls': dict(gamma=0.0, alpha=0.90)},
    'alpha-.99': {'model.bbox_head.loss_cls': dict(gamma=0.0, alpha=0.99)},
    'alpha-.999': {'model.bbox_head.loss_cls': dict(gamma=0.0, alpha=0.999)},
}
