"""Focal loss as a component of a config."""

from collections.abc import Sequence

from torch import Tensor, nn

from focal_retinanet.models.losses.reduction import (
    EPS,
    broadcast_weight,
    check_reduction,
    choose_reduction,
    ignored_rows,
    reduce_loss,
)
from focal_retinanet.models.losses.use_sigmoid import SaysUseSigmoid
from focal_retinanet.ops.focal_loss.definition import (
    Alpha,
    sigmoid_focal_loss,
    softmax_focal_loss,
)
from focal_retinanet.ops.focal_loss.fused import (
    sigmoid_focal_loss_of_anchors,
    sigmoid_focal_loss_sum,
)
from focal_retinanet.registry import MODELS


@MODELS.register_module()
class FocalLoss(nn.Module, metaclass=SaysUseSigmoid):
    """Focal loss (section 3), drop-in for mmdet's ``FocalLoss``.

    Args:
        use_sigmoid: K binary classifiers, or one softmax over C classes of
            which a head makes the last the background. A config has to say it,
            since mmdet's heads read it there.
        gamma: focusing parameter, >= 0; 0 is alpha-balanced cross entropy.
        alpha: one number, one for each class, or None. In the sigmoid form it
            weighs y = 1, and 1 - alpha weighs y = 0.
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the result.
        activated: the input is probabilities, not logits.
        label_smoothing: epsilon in [0, 1), on the cross entropy alone.
        ignore_index: index of the targets that have no loss.

    Raises:
        ValueError: an argument is outside of its range.
    """

    def __init__(
        self,
        use_sigmoid: bool = True,
        gamma: float = 2.0,
        alpha: Alpha = 0.25,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        activated: bool = False,
        label_smoothing: float = 0.0,
        ignore_index: int = -1,
    ) -> None:
        super().__init__()
        if gamma < 0:
            raise ValueError(f'gamma must be >= 0, got {gamma}')
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f'label_smoothing must be in [0, 1), got {label_smoothing}'
            )
        check_reduction(reduction)
        self.use_sigmoid = use_sigmoid
        self.gamma = gamma
        self.alpha = alpha
        self.reduction = reduction
        self.loss_weight = loss_weight
        self.activated = activated
        self.label_smoothing = label_smoothing
        self.ignore_index = ignore_index

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """Weighted and reduced focal loss.

        Args:
            pred: (N, K) logits, or probabilities if ``activated``. In the
                sigmoid form with labels of pred's shape that may be any, the
                classes on axis 1.
            target: (N,) indices, K being background (in the softmax form the
                last of the C = K channels is), or one-hot of pred's shape.
            weight: (N,) for each anchor, or of pred's shape or flat for each
                element; the latter two in the sigmoid form only.
            avg_factor: what 'mean' divides the sum by; in a detector the
                number of positives. Default: the number of loss elements that
                are not ignored.
            reduction_override: replaces ``reduction`` for this call.

        Returns:
            A scalar, or with 'none' pred's shape for sigmoid, (N,) for softmax;
            fp32 (fp64 for fp64 input).

        Raises:
            ValueError: shapes do not fit, an unknown reduction, or
                ``avg_factor`` together with 'sum'. Where mmdet's loss raises
                an AssertionError it is one as well.
        """
        reduction = choose_reduction(self.reduction, reduction_override, avg_factor)
        if reduction != 'none' and self._is_fused(pred, target, weight):
            if reduction == 'sum':
                divisor = 1.0
            elif avg_factor is not None:
                divisor = avg_factor + EPS
            else:
                divisor = (target != self.ignore_index).sum().clamp(min=1)
                divisor = divisor * pred.size(1)
            # Rows of classes are what a channels-last map of one anchor has.
            level = pred.t()[None, :, :, None]  # (1, K, N, 1)
            return self._fused(
                [level],
                target[None],
                _row(weight),
                divisor,
                num_classes=pred.size(1),
                ignore_index=self.ignore_index,
            )

        focal_loss = sigmoid_focal_loss if self.use_sigmoid else softmax_focal_loss
        loss = focal_loss(
            pred,
            target,
            gamma=self.gamma,
            alpha=self.alpha,
            label_smoothing=self.label_smoothing,
            ignore_index=self.ignore_index,
            activated=self.activated,
        )
        if weight is not None:
            loss = loss * broadcast_weight(weight, loss)
        ignored = ignored_rows(pred, target, self.ignore_index)
        return self.loss_weight * reduce_loss(loss, reduction, avg_factor, ignored)

    def sum_over_levels(
        self,
        cls_scores: Sequence[Tensor],
        target: Tensor,
        weight: Tensor | None,
        avg_factor: float | Tensor,
        num_classes: int,
    ) -> Tensor:
        """The loss of all levels at once, from the maps as they are.

        Args:
            cls_scores: logits of each level, (B, A*K, H, W).
            target: (B, N) indices for the anchors of all levels; K is
                background, and -1, whatever ``ignore_index``, is ignored.
            weight: (B, N) or None.
            avg_factor: what the sum is divided by.
            num_classes: K.

        Returns:
            A scalar, fp32 (fp64 for fp64 input).

        Raises:
            ValueError: shapes do not fit, or :attr:`can_sum_over_levels` is
                not true.
        """
        if not self.can_sum_over_levels:
            raise ValueError(f'{self} takes no maps; it is a softmax, or activated')
        return self._fused(
            cls_scores, target, weight, avg_factor + EPS, num_classes, ignore_index=-1
        )

    def of_anchors(
        self, cls_scores: Sequence[Tensor], target: Tensor, num_classes: int
    ) -> Tensor:
        """The loss of each anchor over its classes, not averaged, without gradient.

        Args:
            cls_scores: as in :meth:`sum_over_levels`, and so are the others.

        Returns:
            (B, N), fp32 (fp64 for fp64 input), 0 for what is ignored.
        """
        return self.loss_weight * sigmoid_focal_loss_of_anchors(
            cls_scores,
            target,
            num_classes,
            gamma=self.gamma,
            alpha=self.alpha,
            label_smoothing=self.label_smoothing,
            ignore_index=-1,
        )

    @property
    def can_sum_over_levels(self) -> bool:
        """Whether :meth:`sum_over_levels` gives what ``forward`` would."""
        is_overridden = type(self).forward is not FocalLoss.forward
        return self.use_sigmoid and not self.activated and not is_overridden

    def _is_fused(self, pred: Tensor, target: Tensor, weight: Tensor | None) -> bool:
        """Whether only index targets and weights of whole anchors are asked for."""
        return (
            self.use_sigmoid
            and not self.activated
            and pred.dim() == 2
            and pred.numel() > 0
            and target.shape == pred.shape[:1]
            and not target.is_floating_point()
            and (weight is None or weight.shape in (target.shape, (len(target), 1)))
            and not (weight is not None and weight.requires_grad)
        )

    def _fused(
        self,
        levels: Sequence[Tensor],
        target: Tensor,
        weight: Tensor | None,
        divisor: float | Tensor,
        num_classes: int,
        ignore_index: int,
    ) -> Tensor:
        return sigmoid_focal_loss_sum(
            levels,
            target,
            num_classes,
            weights=weight,
            scale=self.loss_weight / divisor,
            gamma=self.gamma,
            alpha=self.alpha,
            label_smoothing=self.label_smoothing,
            ignore_index=ignore_index,
        )

    def extra_repr(self) -> str:
        return (
            f'use_sigmoid={self.use_sigmoid}, gamma={self.gamma}, '
            f'alpha={self.alpha}, loss_weight={self.loss_weight}'
        )


def _row(weight: Tensor | None) -> Tensor | None:
    """Weights (N,) or (N, 1) as those of one image, (1, N)."""
    return None if weight is None else weight.reshape(1, -1)
