"""The hinge loss on p_t, with which the paper's authors could not train (5.1)."""

from torch import Tensor

from focal_retinanet.ops.focal_loss.definition import Alpha, alpha_t, binary_targets


def hinge_loss(
    logits: Tensor,
    targets: Tensor,
    margin: float = 0.5,
    alpha: Alpha = 0.5,
    ignore_index: int = -1,
) -> Tensor:
    """``a_t * max(0, margin - p_t)`` of K binary classifiers.

    The paper says of it only that it is 0 above a certain value of p_t; that
    value is the margin.

    Args:
        logits: (N, K), any floating dtype; the arithmetic is in fp32, or in
            fp64 for fp64 input.
        targets: (N,) integer class indices, K for background; or labels of the
            logits' shape, which then may be any.
        margin: p_t from which there is no loss, in (0, 1].
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
    p = x.sigmoid()
    p_t = y * p + (1 - y) * (1 - p)
    loss = (margin - p_t).clamp(min=0)
    if alpha is not None:
        loss = alpha_t(alpha, y) * loss
    return loss if ignored is None else loss.masked_fill(ignored, 0)
