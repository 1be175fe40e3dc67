"""Targets of the anchors (section 4, "Anchors"): which anchor trains on which object.

:class:`~focal_retinanet.models.retina_head.RetinaHead` trains on these targets, and
:mod:`focal_retinanet.anchors` reports them, so a report shows what training does.
"""

import inspect
from collections.abc import Sequence

import torch
from mmdet.models.task_modules import AssignResult
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmengine.structures import InstanceData
from torch import Tensor

from focal_retinanet.ops.fast_paths.overrides import overridden
from focal_retinanet.ops.focal_loss.definition import check_indices
from focal_retinanet.ops.matching import IGNORED

# Arguments that RetinaNet can give to an assigner.
_GIVEN = ('pred_instances', 'num_level_priors', 'gt_instances', 'gt_instances_ignore')


def exclude_anchors(
    anchors: Tensor,
    featmap_sizes: Sequence[tuple[int, int]],
    strides: Sequence[tuple[int, int]],
    batch_img_metas: Sequence[dict],
    allowed_border: int = -1,
) -> Tensor | None:
    """Return the anchors that each of B images may not use.

    These are the anchors of cells that lie wholly in the padding up to the largest
    image of the batch, and anchors that extend too far beyond the image.

    Args:
        anchors: Anchors (N, 4) of all levels, xyxy, absolute pixels: row by row, and
            the A anchors of a cell together.
        featmap_sizes: (height, width) of each level.
        strides: (horizontal, vertical) stride of each level, in pixels.
        batch_img_metas: ``img_shape`` and ``pad_shape`` of each image, as (height,
            width, ...) in pixels.
        allowed_border: Distance in pixels that an anchor may extend beyond the image;
            any distance if negative.

    Returns:
        Mask (B, N), bool; None if all images may use all anchors.
    """
    pad_shapes = [meta['pad_shape'][:2] for meta in batch_img_metas]
    excluded = _padding_anchors(featmap_sizes, strides, pad_shapes, anchors)
    if allowed_border < 0:
        return excluded
    if excluded is None:
        excluded = _no_anchors(len(batch_img_metas), anchors)
    for b, meta in enumerate(batch_img_metas):
        excluded[b] = ~anchor_inside_flags(
            anchors, ~excluded[b], meta['img_shape'][:2], allowed_border
        )
    return excluded


def match_anchors(
    assigner,
    anchors: Tensor,
    level_sizes: Sequence[int],
    batch_gt_instances: Sequence[InstanceData],
    batch_gt_instances_ignore: Sequence[InstanceData | None],
    excluded: Tensor | None = None,
) -> Tensor:
    """Match the anchors with the objects of each of B images.

    Args:
        assigner: Assigner that ``train_cfg.assigner`` builds, of this package or of
            mmdet.
        anchors: Anchors (N, 4) of all levels, xyxy, absolute pixels.
        level_sizes: Number of anchors of each level.
        batch_gt_instances: ``bboxes`` (M, 4), xyxy, absolute pixels, and ``labels``
            (M,) of each image; M may be 0.
        batch_gt_instances_ignore: ``bboxes`` of crowds of each image, or None.
        excluded: Mask (B, N), bool, of anchors that are ignored, or None.

    Returns:
        (B, N) int64: 0 for background, -1 for ignored, i + 1 for object i, with objects
        counted over all images.

    Raises:
        TypeError: The assigner needs something that RetinaNet does not have.
    """
    if _assigns_batches(assigner):
        matched, _ = assigner.assign_batch(
            anchors, batch_gt_instances, batch_gt_instances_ignore, excluded
        )
        return matched
    matched, offset = [], 0
    for b, gt_instances in enumerate(batch_gt_instances):
        priors, sizes = anchors, list(level_sizes)
        if excluded is not None:
            inside = ~excluded[b]
            priors = anchors[inside]
            sizes = [int(level.sum()) for level in inside.split(sizes)]
        result = _assign_image(
            assigner, priors, sizes, gt_instances, batch_gt_instances_ignore[b]
        )
        gt_inds = torch.where(
            result.gt_inds > 0, result.gt_inds + offset, result.gt_inds
        )
        if excluded is not None:
            all_inds = gt_inds.new_full(inside.shape, IGNORED)
            all_inds[inside] = gt_inds
            gt_inds = all_inds
        matched.append(gt_inds)
        offset += len(gt_instances.bboxes)
    return torch.stack(matched)


def class_targets(matched: Tensor, gt_labels: Tensor, num_classes: int) -> Tensor:
    """Return the class that each anchor trains on.

    Args:
        matched: Result (B, N) of :func:`match_anchors`.
        gt_labels: Labels (M,) of the objects of all images.
        num_classes: Number of classes K.

    Returns:
        (B, N) int64: class, K for background, -1 for ignored.

    Raises:
        ValueError: A label is not in 0..K-1 (on a CPU; on a GPU, the host would wait).
    """
    check_indices(gt_labels, num_classes - 1)
    background = gt_labels.new_full((1,), num_classes)
    ignored = gt_labels.new_full((1,), IGNORED)
    # Index 0 is the background, and index -1 the last entry.
    return torch.cat([background, gt_labels, ignored])[matched]


def _assigns_batches(assigner) -> bool:
    """Whether ``assign_batch`` gives what ``assign`` does, also in a derived class."""
    for owner in type(assigner).__mro__:
        if 'assign_batch' in vars(owner):
            return not overridden(assigner, owner, 'assign', 'assign_wrt_overlaps')
    return False


def _padding_anchors(
    featmap_sizes: Sequence[tuple[int, int]],
    strides: Sequence[tuple[int, int]],
    pad_shapes: Sequence[tuple[int, int]],
    anchors: Tensor,
) -> Tensor | None:
    """Return the anchors (B, N) whose cells lie wholly in the padding, or None.

    They follow from shapes only. On a GPU, this takes a launch or two per padded level.
    """
    cells = sum(height * width for height, width in featmap_sizes)
    anchors_per_cell = len(anchors) // max(cells, 1)
    excluded = None
    for b, (pad_h, pad_w) in enumerate(pad_shapes):
        first = 0
        for (height, width), (stride_w, stride_h) in zip(
            featmap_sizes, strides, strict=True
        ):
            stop = first + height * width * anchors_per_cell
            rows, columns = -(-pad_h // stride_h), -(-pad_w // stride_w)
            if rows < height or columns < width:
                if excluded is None:
                    excluded = _no_anchors(len(pad_shapes), anchors)
                level = excluded[b, first:stop].view(height, width, -1)
                level[rows:] = True
                level[:rows, columns:] = True
            first = stop
    return excluded


def _no_anchors(batch: int, anchors: Tensor) -> Tensor:
    shape = (batch, len(anchors))
    return torch.zeros(shape, dtype=torch.bool, device=anchors.device)


def _assign_image(
    assigner,
    priors: Tensor,
    num_level_priors: list[int],
    gt_instances: InstanceData,
    gt_instances_ignore: InstanceData | None,
) -> AssignResult:
    """Assign the anchors of one image by an assigner of mmdet's."""
    parameters = inspect.signature(assigner.assign).parameters.values()
    required = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    name = type(assigner).__name__
    if unknown := [parameter for parameter in required if parameter not in _GIVEN]:
        raise TypeError(
            f'RetinaHead cannot work with train_cfg.assigner={name}, which needs '
            f'{", ".join(unknown)}; use MaxIoUAssigner or ATSSAssigner'
        )
    arguments = dict(
        pred_instances=InstanceData(priors=priors),
        gt_instances=gt_instances,
        gt_instances_ignore=gt_instances_ignore,
    )
    if 'num_level_priors' in required:
        arguments['num_level_priors'] = num_level_priors
    try:
        return assigner.assign(**arguments)
    except AttributeError as error:
        if "'InstanceData' object has no attribute" not in str(error):
            raise
        raise TypeError(
            f'RetinaHead cannot work with train_cfg.assigner={name}, which looks at '
            f'predictions that RetinaNet does not assign by ({error}); use '
            'MaxIoUAssigner or ATSSAssigner'
        ) from error
