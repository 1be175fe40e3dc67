"""Rivals of the focal loss on RetinaNet's head (sections 3.3, 4.1, 5.1, 5.2)."""

base = '../retinanet/retinanet_r50_fpn_90k_coco-600px.py'
cross_entropy = dict(gamma=0.0, alpha=None)
rows = {
    'ce': {'model.bbox_head.loss_cls': cross_entropy},
    # Both classes are equally likely at the start.
    'ce_no-prior': {
        'model.bbox_head.loss_cls': cross_entropy,
        'model.bbox_head.pi': 0.5,
    },
    'fl_no-prior': {'model.bbox_head.pi': 0.5},
    'hinge': {
        'model.bbox_head.loss_cls': dict(
            _delete_=True, type='focal_retinanet.HingeLoss', margin=0.5, alpha=0.5
        )
    },
    # SSD: the three hardest negatives per positive.
    'hard-negatives': {
        'model.bbox_head.loss_cls': cross_entropy,
        'model.train_cfg.sampler': dict(
            type='focal_retinanet.HardNegativeSampler', neg_pos_ratio=3
        ),
    },
    # RPN: 256 random anchors, at most half of them positive.
    'random-256': {
        'model.bbox_head.loss_cls': cross_entropy,
        'model.train_cfg.sampler': dict(
            type='RandomSampler',
            num=256,
            pos_fraction=0.5,
            neg_pos_ub=-1,
            add_gt_as_proposals=False,
        ),
    },
}
