"""Rivals of the focal loss, as components of a config."""

from abc import abstractmethod

from torch import Tensor, nn

from focal_retinanet.models.losses.reduction import (
    LossArgumentError,
    check_reduction,
    choose_reduction,
    ignored_rows,
    reduce_loss,
)
from focal_retinanet.models.losses.use_sigmoid import SaysUseSigmoid
from focal_retinanet.ops.focal_loss.definition import Alpha, check_alpha
from focal_retinanet.ops.rivals import focal_loss_star, hinge_loss
from focal_retinanet.registry import MODELS


class BinaryLoss(nn.Module, metaclass=SaysUseSigmoid):
    """Base class of losses of K binary classifiers, called like ``FocalLoss``.

    Args:
        alpha: Weight of y = 1 in [0, 1], with 1 - alpha for y = 0: a number, one
            number per class, or None for no weights.
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: Factor of the result.
        ignore_index: Target of anchors without a loss.
        use_sigmoid: Must be true. A config has to say so, because mmdet's heads read
            it from the config.

    Raises:
        ValueError: An argument is out of range, or ``use_sigmoid`` is false.
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
        check_alpha(alpha)
        check_reduction(reduction)
        self.alpha = alpha
        self.reduction = reduction
        self.loss_weight = loss_weight
        self.ignore_index = ignore_index
        self.use_sigmoid = use_sigmoid

    @abstractmethod
    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each logit, of pred's shape, 0 where ignored."""

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """Return the weighted and reduced loss; see :meth:`FocalLoss.forward`."""
        reduction = choose_reduction(self.reduction, reduction_override, avg_factor)
        loss = self.elementwise(pred, target)
        ignored = ignored_rows(pred, target, self.ignore_index)
        loss = reduce_loss(loss, weight, reduction, avg_factor, ignored)
        return self.loss_weight * loss


@MODELS.register_module()
class FocalLossStar(BinaryLoss):
    """FL* (appendix A, table 3).

    Args:
        gamma: Steepness, > 0.
        beta: Shift.
        alpha: Weight of y = 1. The paper names none for FL*; the default is that of
            its FL.
        **kwargs: Arguments of :class:`BinaryLoss`.

    Raises:
        ValueError: An argument is out of range.
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


@MODELS.register_module()
class HingeLoss(BinaryLoss):
    """Hinge loss ``a_t * max(0, margin - p_t)`` (section 5.1).

    Args:
        margin: p_t above which the loss is 0, in (0, 1].
        alpha: Weight of y = 1.
        **kwargs: Arguments of :class:`BinaryLoss`.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, margin: float = 0.5, alpha: Alpha = 0.5, **kwargs) -> None:
        super().__init__(alpha, **kwargs)
        if not 0 < margin <= 1:
            raise ValueError(f'margin must be in (0, 1], got {margin}')
        self.margin = margin

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        return hinge_loss(pred, target, self.margin, self.alpha, self.ignore_index)
