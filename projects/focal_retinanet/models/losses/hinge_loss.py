"""The hinge loss on p_t, a rival of the focal loss, as a component of a config."""

from torch import Tensor

from focal_retinanet.models.losses.rivals import BinaryLoss
from focal_retinanet.ops.focal_loss.definition import Alpha
from focal_retinanet.ops.hinge_loss import hinge_loss
from focal_retinanet.registry import MODELS


@MODELS.register_module()
class HingeLoss(BinaryLoss):
    """``a_t * max(0, margin - p_t)`` (section 5.1).

    Args:
        margin: p_t from which there is no loss, in (0, 1].
        alpha: as ``FocalLoss`` has it.
        **kwargs: of :class:`BinaryLoss`.

    Raises:
        ValueError: an argument is outside of its range.
    """

    def __init__(self, margin: float = 0.5, alpha: Alpha = 0.5, **kwargs) -> None:
        super().__init__(alpha, **kwargs)
        if not 0 < margin <= 1:
            raise ValueError(f'margin must be in (0, 1], got {margin}')
        self.margin = margin

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        return hinge_loss(pred, target, self.margin, self.alpha, self.ignore_index)
