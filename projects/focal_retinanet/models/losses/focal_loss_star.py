"""FL*, the focal loss of the paper's appendix A, as a component of a config."""

from torch import Tensor

from focal_retinanet.models.losses.rivals import BinaryLoss
from focal_retinanet.ops.focal_loss.definition import Alpha
from focal_retinanet.ops.rivals import focal_loss_star
from focal_retinanet.registry import MODELS


@MODELS.register_module()
class FocalLossStar(BinaryLoss):
    """FL* (appendix A, table 3).

    Args:
        gamma: steepness, > 0.
        beta: shift.
        alpha: as ``FocalLoss`` has it. The paper names none for FL*; the
            default is that of its FL.
        **kwargs: of :class:`BinaryLoss`.

    Raises:
        ValueError: an argument is outside of its range.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        beta: float = 1.0,
        alpha: Alpha = 0.25,
        **kwargs,
    ) -> None:
        super().__init__(alpha, **kwargs)
        if gamma <= 0:
            raise ValueError(f'gamma must be > 0, got {gamma}')
        self.gamma = gamma
        self.beta = beta

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        return focal_loss_star(
            pred, target, self.gamma, self.beta, self.alpha, self.ignore_index
        )
