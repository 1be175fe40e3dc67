"""FL*, the variant of the focal loss of the paper's appendix A.

With ``x_t = x`` if y = 1 else ``-x``::

    p*_t = sigmoid(gamma * x_t + beta)
    FL*  = -a_t * log(p*_t) / gamma
"""

import torch.nn.functional as F
from torch import Tensor

from focal_retinanet.ops.focal_loss.definition import Alpha, alpha_t, binary_targets


def focal_loss_star(
    logits: Tensor,
    targets: Tensor,
    gamma: float = 2.0,
    beta: float = 1.0,
    alpha: Alpha = 0.25,
    ignore_index: int = -1,
) -> Tensor:
    """FL* of K independent binary classifiers (appendix A).

    Args:
        logits: (N, K), any floating dtype; the arithmetic is in fp32, or in
            fp64 for fp64 input.
        targets: (N,) integer class indices, K for background; or labels of the
            logits' shape, which then may be any.
        gamma: steepness, > 0.
        beta: shift.
        alpha: as in :func:`~focal_retinanet.ops.focal_loss.definition.sigmoid_focal_loss`.
        ignore_index: index of the rows whose loss and gradient are zero.

    Returns:
        Loss of every anchor and class, of the logits' shape, fp32 (fp64 for fp64
        input).

    Raises:
        ValueError: shapes do not fit, or (on a CPU) an index is outside of
            0..K.
    """
    x, y, ignored = binary_targets(logits, targets, ignore_index)
    loss_pos = F.softplus(-(gamma * x + beta))  # y = 1, x_t = x
    loss_neg = F.softplus(-(beta - gamma * x))  # y = 0, x_t = -x
    loss = (y * loss_pos + (1 - y) * loss_neg) / gamma
    if alpha is not None:
        loss = alpha_t(alpha, y) * loss
    return loss if ignored is None else loss.masked_fill(ignored, 0)
