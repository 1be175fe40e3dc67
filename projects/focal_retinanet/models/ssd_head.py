"""SSD's head, for the baseline."""

from mmdet.models.dense_heads import SSDHead as MMDetSSDHead

from focal_retinanet.registry import MODELS


@MODELS.register_module()
class SSDHead(MMDetSSDHead):
    """mmdet's ``SSDHead`` with the attribute that prediction needs.

    mmdet 3.3 can train its own head but not predict with it: prediction reads the
    ``loss_cls`` of every head, which this one lacks because it computes its loss
    itself. Arguments, results and state-dict keys do not change.
    """

    loss_cls = None
