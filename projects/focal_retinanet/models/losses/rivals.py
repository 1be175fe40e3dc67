"""What the focal loss's rivals over K binary classifiers have in common."""

from abc import abstractmethod

from torch import Tensor, nn

from focal_retinanet.models.losses.reduction import (
    LossArgumentError,
    broadcast_weight,
    check_reduction,
    choose_reduction,
    ignored_rows,
    reduce_loss,
)
from focal_retinanet.models.losses.use_sigmoid import SaysUseSigmoid
from focal_retinanet.ops.focal_loss.definition import Alpha


class BinaryLoss(nn.Module, metaclass=SaysUseSigmoid):
    """A loss of sigmoids, called as ``FocalLoss`` is.

    Args:
        alpha: weight of y = 1, with 1 - alpha for y = 0; one number, one for
            each class, or None.
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the result.
        ignore_index: index of the targets that have no loss.
        use_sigmoid: only true is possible. A config has to say it, since mmdet's
            heads read it there.

    Raises:
        ValueError: an unknown reduction, or no sigmoid.
    """

    def __init__(
        self,
        alpha: Alpha,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        ignore_index: int = -1,
        use_sigmoid: bool = True,
    ) -> None:
        super().__init__()
        if not use_sigmoid:
            raise LossArgumentError(f'{type(self).__name__} needs use_sigmoid=True')
        check_reduction(reduction)
        self.alpha = alpha
        self.reduction = reduction
        self.loss_weight = loss_weight
        self.ignore_index = ignore_index
        self.use_sigmoid = use_sigmoid

    @abstractmethod
    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        """The loss of each logit, of pred's shape, 0 where ignored."""

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """Weighted and reduced loss; arguments and result as ``FocalLoss`` has them.

        Raises:
            ValueError: shapes do not fit, an unknown reduction, or
                ``avg_factor`` together with 'sum'.
        """
        reduction = choose_reduction(self.reduction, reduction_override, avg_factor)
        loss = self.elementwise(pred, target)
        if weight is not None:
            loss = loss * broadcast_weight(weight, loss)
        ignored = ignored_rows(pred, target, self.ignore_index)
        return self.loss_weight * reduce_loss(loss, reduction, avg_factor, ignored)
