"""Focal loss, section 3 of the paper, in plain PyTorch.

The binary form, for each anchor and class, with ``y`` in {0, 1}::

    p    = sigmoid(x)
    p_t  = p      if y = 1 else 1 - p
    a_t  = alpha  if y = 1 else 1 - alpha
    FL   = -a_t * (1 - p_t)**gamma * log(p_t)

Everything is computed from ``log(p_t)`` and ``log(1 - p_t)``, each by a stable
log-sigmoid, and the modulating factor is ``exp(gamma * log(1 - p_t))``. So the loss is
exact where ``p_t`` rounds to 0 or 1, and its gradient is finite for every gamma >= 0.
Written as a power, ``(1 - p_t)**gamma`` has the derivative ``0 * inf`` at ``p_t = 1``
for gamma < 1.
"""

import functools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from focal_retinanet.ops.fast_paths.eager import is_eager

Alpha = float | Sequence[float] | None


def sigmoid_focal_loss(
    logits: Tensor,
    targets: Tensor,
    gamma: float = 2.0,
    alpha: Alpha = 0.25,
    label_smoothing: float = 0.0,
    ignore_index: int = -1,
    activated: bool = False,
) -> Tensor:
    """Focal loss of K independent binary classifiers (section 3.2).

    Args:
        logits: Logits (N, K), any floating dtype. The arithmetic is in fp32, or in
            fp64 for fp64 logits.
        targets: Class indices (N,), integers, where K is background (all K classifiers
            should say no) and ``ignore_index`` is ignored; or one-hot or soft labels
            of the logits' shape, which may then be any shape, such as (B, K, H, W).
        gamma: Focusing parameter, >= 0. 0 gives alpha-balanced cross entropy.
        alpha: Weight of y = 1 in [0, 1], with 1 - alpha for y = 0: a number, K numbers
            (one per class), or None for no weights.
        label_smoothing: Epsilon in [0, 1). The cross entropy uses the label
            ``y * (1 - epsilon) + epsilon / 2``; ``a_t`` and the modulating factor use
            the true label.
        ignore_index: Target of the rows without a loss.
        activated: Whether ``logits`` are already probabilities.

    Returns:
        Loss of each anchor and class, of the logits' shape, fp32 (fp64 for fp64
        logits).

    Raises:
        ValueError: Shapes do not fit, a weight is negative, or (on a CPU, where the
            check is free) an index is not in 0..K.
    """
    x, y, ignored = binary_targets(logits, targets, ignore_index)
    if activated:
        log_p, log_not_p = _log(x), _log(1 - x)
    else:
        log_p, log_not_p = F.logsigmoid(x), F.logsigmoid(-x)

    y_smooth = y * (1 - label_smoothing) + label_smoothing / 2
    cross_entropy = scaled(-log_p, y_smooth) + scaled(-log_not_p, 1 - y_smooth)
    loss = cross_entropy
    if gamma != 0:
        log_one_minus_p_t = _log_one_minus_p_t(y, log_p, log_not_p)
        loss = modulated(cross_entropy, log_one_minus_p_t, gamma)
    if alpha is not None:
        loss = scaled(loss, alpha_t(alpha, y))
    return loss if ignored is None else loss.masked_fill(ignored, 0)


def softmax_focal_loss(
    logits: Tensor,
    targets: Tensor,
    gamma: float = 2.0,
    alpha: Alpha = 0.25,
    label_smoothing: float = 0.0,
    ignore_index: int = -1,
    activated: bool = False,
) -> Tensor:
    """Focal loss of one classifier over C classes (section 3.2, multi-class).

    ``FL(p, y) = -alpha_y * (1 - p_y)**gamma * log(p_y)`` with p = softmax(x).
    In a detection head, C is the number of classes plus one, and the last class is
    the background.

    Args:
        logits: Logits (N, C), C >= 2, any floating dtype. The arithmetic is in fp32,
            or in fp64 for fp64 logits.
        targets: Class indices (N,), integers in 0..C-1 or ``ignore_index``; or one-hot
            labels (N, C).
        gamma: Focusing parameter, >= 0.
        alpha: Weight of all classes, >= 0, or C numbers, or None for no weights.
        label_smoothing: Epsilon in [0, 1). The cross entropy uses the label
            ``y * (1 - epsilon) + epsilon / C``; alpha and the modulating factor use
            the true label.
        ignore_index: Target of the rows without a loss.
        activated: Whether ``logits`` are already probabilities.

    Returns:
        Loss (N,) of each anchor, fp32 (fp64 for fp64 logits).

    Raises:
        ValueError: Shapes do not fit, C < 2, a weight is negative, or (on a CPU) an
            index is not in 0..C-1 or labels are not one-hot.
    """
    if logits.dim() != 2:
        raise ValueError(f'logits must be (N, C), got shape {tuple(logits.shape)}')
    x = _as_float(logits)
    num_classes = x.size(1)
    if num_classes < 2:
        raise ValueError(
            'softmax focal loss over one class is always 0: give the background a '
            'channel of its own (C >= 2) or use the sigmoid form'
        )
    if targets.shape == logits.shape:
        targets = _index_of_one_hot(targets)
    targets = _as_indices(logits, targets)
    check_indices(targets, num_classes - 1, ignore_index)
    ignored = targets == ignore_index
    index = targets.masked_fill(ignored, 0)[:, None]  # (N, 1)

    if activated:
        log_p = _log(x)
        log_one_minus_p_y = _log(1 - x.gather(1, index))
    else:
        log_p = F.log_softmax(x, dim=1)
        # From the other classes' logits, log(1 - p_y) is exact where p_y rounds to 1.
        others = x.scatter(1, index, float('-inf'))
        # Where all others are -inf, p_y = 1, and logsumexp has the gradient NaN.
        is_certain = others.isneginf().all(1, keepdim=True)
        log_others = torch.logsumexp(
            others.masked_fill(is_certain, 0), 1, keepdim=True
        ).masked_fill(is_certain, -torch.inf)
        log_one_minus_p_y = log_others - torch.logsumexp(x, 1, keepdim=True)

    cross_entropy = -log_p.gather(1, index)
    if label_smoothing:
        cross_entropy = (1 - label_smoothing) * cross_entropy
        cross_entropy = cross_entropy - label_smoothing * log_p.mean(1, keepdim=True)
    loss = cross_entropy
    if gamma != 0:
        loss = modulated(cross_entropy, log_one_minus_p_y, gamma)
    check_alpha(alpha, highest=math.inf)
    if alpha is not None:
        a = alpha_tensor(alpha, num_classes, x.dtype, x.device)
        loss = (a[index] if a.dim() else a) * loss
    return loss[:, 0].masked_fill(ignored, 0)


def binary_targets(
    logits: Tensor, targets: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the logits x and the labels y of K binary classifiers.

    Args:
        logits: Logits (N, K), any floating dtype.
        targets: Class indices (N,), integers, K for background; or one-hot or soft
            labels of the logits' shape, which may then be any shape.
        ignore_index: Target of the rows without a loss.

    Returns:
        - x, fp32 (fp64 for fp64 logits), of the logits' shape.
        - y, of the same dtype and shape.
        - Mask (N, 1), bool, of the ignored rows; None if the targets are labels.

    Raises:
        ValueError: Shapes do not fit, or (on a CPU) an index is not in 0..K.
    """
    x = _as_float(logits)
    if targets.shape == logits.shape:
        return x, targets.to(x), None
    targets = _as_indices(logits, targets)
    check_indices(targets, x.size(1), ignore_index)
    classes = torch.arange(x.size(1), device=x.device)
    y = (targets[:, None] == classes).to(x)  # (N, K)
    return x, y, (targets == ignore_index)[:, None]


def alpha_t(alpha: float | Sequence[float], y: Tensor) -> Tensor:
    """Return alpha where y = 1 and 1 - alpha where y = 0, for labels y (N, K, ...)."""
    check_alpha(alpha)
    num_classes = y.size(1) if y.dim() > 1 else 1
    a = alpha_tensor(alpha, num_classes, y.dtype, y.device)
    if a.dim():
        a = a.reshape(-1, *[1] * (y.dim() - 2))
    return a * y + (1 - a) * (1 - y)


def _as_float(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _log(p: Tensor) -> Tensor:
    """Return the log of a probability, finite and with a finite gradient at p = 0."""
    return p.clamp_min(torch.finfo(p.dtype).tiny).log()


def scaled(loss: Tensor, factor: Tensor) -> Tensor:
    """Return ``loss * factor``, where an infinite loss times 0 is 0."""
    return loss.masked_fill(loss.isinf() & (factor == 0), 0) * factor


def modulated(cross_entropy: Tensor, log_one_minus_p_t: Tensor, gamma: float) -> Tensor:
    """Return ``(1 - p_t)**gamma * cross_entropy``, for gamma > 0."""
    # Infinity times 0 would be NaN: in the derivative where p_t = 0, and with label
    # smoothing where p_t = 1.
    factor = torch.exp(gamma * log_one_minus_p_t.masked_fill(log_one_minus_p_t == 0, 0))
    return factor * cross_entropy.masked_fill(log_one_minus_p_t == -torch.inf, 0)


def _log_one_minus_p_t(y: Tensor, log_p: Tensor, log_not_p: Tensor) -> Tensor:
    """Return the log of ``1 - p_t = y (1 - p) + (1 - y) p``."""
    if y.requires_grad:  # the log of 0 has no gradient
        y = y * (1 - 2 * torch.finfo(y.dtype).eps) + torch.finfo(y.dtype).eps
    is_one, is_zero = y == 1, y == 0
    soft = y.masked_fill(is_one | is_zero, 0.5)
    mixed = torch.logaddexp(soft.log() + log_not_p, (1 - soft).log() + log_p)
    return torch.where(is_one, log_not_p, torch.where(is_zero, log_p, mixed))


def _index_of_one_hot(labels: Tensor) -> Tensor:
    """Return the class (N,) of one-hot labels (N, C).

    Raises:
        ValueError: Labels are not one-hot (on a CPU; on a GPU, the host would wait).
    """
    if labels.device.type == 'cpu' and is_eager(labels):
        is_one_hot = ((labels == 0) | (labels == 1)).all(1) & (labels.sum(1) == 1)
        if not is_one_hot.all():
            row = int((~is_one_hot).nonzero()[0])
            raise ValueError(
                f'labels of a softmax must be one-hot, got {labels[row].tolist()} in '
                f'row {row}; the sigmoid form takes soft labels'
            )
    return labels.argmax(dim=1)


def _as_indices(logits: Tensor, targets: Tensor) -> Tensor:
    """Return class indices as int64, of which -1 is none of another type's numbers.

    Raises:
        ValueError: Targets are not the indices of the logits' rows.
    """
    is_index = targets.shape == logits.shape[:1] and not targets.is_floating_point()
    if logits.dim() != 2 or not is_index:
        raise ValueError(
            f'targets must be integer class indices of shape '
            f'{tuple(logits.shape[:1])}, for logits (N, K), or labels of shape '
            f'{tuple(logits.shape)}, got {targets.dtype} of shape '
            f'{tuple(targets.shape)}'
        )
    return targets.to(torch.int64)


def check_alpha(alpha: Alpha, highest: float = 1) -> None:
    """Check that no anchor gets a negative weight.

    Args:
        alpha: A number, one number per class, or None.
        highest: Highest number that is allowed: 1 where 1 - alpha is a weight, too.

    Raises:
        ValueError: A number is not in 0..highest.
    """
    for number in alpha if isinstance(alpha, Sequence) else [alpha]:
        if number is not None and not 0 <= number <= highest:
            bounds = '>= 0' if highest == math.inf else f'in [0, {highest}]'
            raise ValueError(
                f'alpha must be {bounds}, got {number}; for no weights, which '
                "torchvision's alpha=-1 means, give None"
            )


def alpha_tensor(
    alpha: float | Sequence[float],
    num_classes: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """Return alpha as a scalar tensor, or (num_classes,) for one number per class.

    Raises:
        ValueError: The number of alphas is not the number of classes.
    """
    if not isinstance(alpha, Sequence):
        # Filled on the device, because a copy from the host would make it wait.
        return torch.full((), float(alpha), dtype=dtype, device=device)
    if len(alpha) != num_classes:
        raise ValueError(
            f'alpha has {len(alpha)} numbers for {num_classes} classes; give one '
            'number, one number per class, or None'
        )
    if not is_eager():
        return torch.tensor(tuple(alpha), dtype=dtype, device=device)
    return _alpha_per_class(tuple(alpha), dtype, device)


# Cached, because a copy to a GPU makes the host wait.
@functools.lru_cache(maxsize=16)
def _alpha_per_class(
    alpha: tuple[float, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    with torch.inference_mode(False):  # autograd cannot save inference tensors
        return torch.tensor(alpha, dtype=dtype, device=device)


def check_indices(
    targets: Tensor, highest: int, ignore_index: int | None = None
) -> None:
    """Check class indices on a CPU; on a GPU, the host would have to wait.

    Raises:
        ValueError: An index is neither in 0..highest nor ``ignore_index``.
    """
    if targets.device.type == 'cpu' and is_eager(targets) and targets.numel():
        lowest_seen, highest_seen = (int(bound) for bound in targets.aminmax())
        if lowest_seen >= 0 and highest_seen <= highest:
            return
        bad = (targets < 0) | (targets > highest)
        nor = ''
        if ignore_index is not None:
            bad &= targets != ignore_index
            nor = f' and is not ignore_index={ignore_index}'
        if bad.any():
            raise ValueError(
                f'target {targets[bad][0].item()} is not in 0..{highest}{nor}; does '
                'the number of classes fit the data set?'
            )
