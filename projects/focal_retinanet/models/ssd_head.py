"""SSD's head, for the baseline that is compared with."""

from mmdet.models.dense_heads import SSDHead as MMDetSSDHead

from focal_retinanet.registry import MODELS


@MODELS.register_module()
class SSDHead(MMDetSSDHead):
    """mmdet's, with arguments, results and state-dict keys unchanged.

    mmdet 3.3 trains it but fails when it predicts: it asks every head for its
    ``loss_cls``, and this one computes its loss by itself.
    """

    loss_cls = None
