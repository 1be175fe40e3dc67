"""Parts of a head that its own loss, over all levels at once, cannot make use of."""

from mmdet.models.dense_heads import RetinaHead as MMDetRetinaHead
from mmdet.models.losses import GHMC, GHMR
from mmdet.models.task_modules import AnchorGenerator

from focal_retinanet.ops.fast_paths.overrides import overridden

# Steps of mmdet's loss, level by level and image by image.
_STEPS = ('loss_by_feat_single', 'get_targets', '_get_targets_single', 'get_anchors')
# Which anchors lie in the padding follows from the shapes here.
_FLAGS = ('valid_flags', 'single_level_valid_flags')


def foreign_parts(head: MMDetRetinaHead, own: type) -> list[str]:
    """Return the parts of which only mmdet's loss makes use, level by level.

    Args:
        head: Head with its parts.
        own: Class whose loss makes no use of them.

    Returns:
        Names such as 'get_targets', 'prior_generator.valid_flags', 'loss_cls=GHMC'.
    """
    parts = overridden(head, own, *_STEPS)
    parts += [
        f'prior_generator.{name}'
        for name in overridden(head.prior_generator, AnchorGenerator, *_FLAGS)
    ]
    # These harmonize the gradients within a level, and take other arguments.
    if isinstance(head.loss_cls, GHMC):
        parts.append('loss_cls=GHMC')
    if isinstance(head.loss_bbox, GHMR):
        parts.append('loss_bbox=GHMR')
    return parts


def check_reductions(head: MMDetRetinaHead) -> None:
    """Check that both losses of a head are sums over a divisor.

    Raises:
        ValueError: The reduction of a loss is not 'mean'.
    """
    for name in ('loss_cls', 'loss_bbox'):
        reduction = getattr(getattr(head, name), 'reduction', 'mean')
        if reduction != 'mean':
            raise ValueError(
                f'RetinaHead divides its losses by the number of positives, which '
                f"{name}.reduction='{reduction}' does not allow; use 'mean'"
            )
