"""Focal loss as a component of a config."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from focal_retinanet.models.losses.reduction import (
    EPS,
    check_reduction,
    choose_reduction,
    ignored_rows,
    loss_divisor,
    reduce_loss,
)
from focal_retinanet.models.losses.use_sigmoid import SaysUseSigmoid
from focal_retinanet.ops.fast_paths.overrides import has_hooks, overridden
from focal_retinanet.ops.focal_loss.definition import (
    Alpha,
    check_alpha,
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
        use_sigmoid: If true, K binary classifiers; otherwise one softmax over C
            classes, the last of which is the background in a head. A config has to set
            it, because mmdet's heads read it from the config.
        gamma: Focusing parameter, >= 0; 0 is alpha-balanced cross entropy.
        alpha: A number, one number per class, or None. In the sigmoid form, it is the
            weight of y = 1 in [0, 1], and 1 - alpha that of y = 0. In the softmax
            form, it is a weight >= 0.
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: Factor of the result.
        activated: If true, the input is probabilities and not logits.
        label_smoothing: Epsilon in [0, 1), for the cross entropy only.
        ignore_index: Target of anchors without a loss.

    Raises:
        ValueError: An argument is out of range.
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
        if not 0 <= gamma < math.inf:
            raise ValueError(f'gamma must be a number >= 0, got {gamma}')
        check_alpha(alpha, highest=1 if use_sigmoid else math.inf)
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
        """Return the weighted and reduced focal loss.

        Args:
            pred: Logits (N, K), or probabilities if ``activated``. In the sigmoid form
                with one-hot targets, any shape with the classes on axis 1.
            target: Class indices (N,), where K is background (in the softmax form, the
                last of the C = K channels is), or one-hot targets of pred's shape.
            weight: Weights (N,) of the anchors. In the sigmoid form also weights of the
                elements, of pred's shape or flat.
            avg_factor: Divisor of 'mean', in a detector the number of positives. If
                None, the number of elements that are not ignored.
            reduction_override: Reduction of this call in place of ``reduction``.

        Returns:
            Scalar, or with 'none' a tensor of pred's shape (sigmoid) or (N,) (softmax);
            fp32 (fp64 for fp64 input).

        Raises:
            ValueError: Shapes do not fit, the reduction is unknown, or ``avg_factor``
                is given with 'sum'. The error is also an AssertionError if mmdet's loss
                raises one.
        """
        reduction = choose_reduction(self.reduction, reduction_override, avg_factor)
        is_counted = reduction == 'mean' and avg_factor is None
        ignored = ignored_rows(pred, target, self.ignore_index) if is_counted else None
        if reduction != 'none' and self._is_fused(pred, target, weight):
            # Rows of classes are a channels-last map with one anchor per cell.
            level = pred.t()[None, :, :, None]  # (1, K, N, 1)
            return self._fused(
                [level],
                target[None],
                None if weight is None else weight.reshape(1, -1),
                loss_divisor(pred, reduction, avg_factor, ignored),
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
        loss = reduce_loss(loss, weight, reduction, avg_factor, ignored)
        return self.loss_weight * loss

    def sum_over_levels(
        self,
        cls_scores: Sequence[Tensor],
        target: Tensor,
        weight: Tensor | None,
        avg_factor: float | Tensor,
        num_classes: int,
    ) -> Tensor:
        """Return the loss of all levels at once.

        Args:
            cls_scores: Logits (B, A*K, H, W) of each level.
            target: Class indices (B, N) of the anchors of all levels; K is background,
                and -1 is ignored, as ``ignore_index`` is.
            weight: Weights (B, N) of the anchors, or None.
            avg_factor: Divisor of the sum.
            num_classes: Number of classes K.

        Returns:
            Scalar, fp32 (fp64 for fp64 input).

        Raises:
            ValueError: Shapes do not fit, or :attr:`can_sum_over_levels` is false.
        """
        if not self.can_sum_over_levels:
            raise ValueError(
                'sum_over_levels needs use_sigmoid=True, activated=False, '
                "reduction='mean' and a forward without hooks that is not overridden, "
                f'got {self}'
            )
        return self._fused(
            cls_scores,
            self._with_ignored(target),
            weight,
            avg_factor + EPS,
            num_classes,
            ignore_index=-1,
        )

    def of_anchors(
        self, cls_scores: Sequence[Tensor], target: Tensor, num_classes: int
    ) -> Tensor:
        """Return the loss of each anchor, summed over its classes, without gradient.

        Args:
            cls_scores: See :meth:`sum_over_levels`, as for all other arguments.

        Returns:
            (B, N), fp32 (fp64 for fp64 input), 0 for ignored anchors.
        """
        return self.loss_weight * sigmoid_focal_loss_of_anchors(
            cls_scores,
            self._with_ignored(target),
            num_classes,
            gamma=self.gamma,
            alpha=self.alpha,
            label_smoothing=self.label_smoothing,
            ignore_index=-1,
        )

    @property
    def can_sum_over_levels(self) -> bool:
        """Whether :meth:`sum_over_levels` computes the same loss as ``forward``."""
        return (
            self.use_sigmoid
            and not self.activated
            and self.reduction == 'mean'
            and not overridden(self, FocalLoss, 'forward', '__call__')
            and not has_hooks(self)
        )

    def _with_ignored(self, target: Tensor) -> Tensor:
        """Return targets with -1 for those that ``ignore_index`` ignores, too."""
        if self.ignore_index == -1:
            return target
        return target.masked_fill(target == self.ignore_index, -1)

    def _is_fused(self, pred: Tensor, target: Tensor, weight: Tensor | None) -> bool:
        """Whether the kernels can serve: index targets and weights of anchors only."""
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
