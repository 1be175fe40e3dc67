"""Parts of assignment that need no state: padding, and mmdet's assigners."""

import inspect
from collections.abc import Sequence

import torch
from mmdet.models.task_modules import AssignResult
from mmengine.structures import InstanceData
from torch import Tensor

_GIVEN = ('pred_instances', 'num_level_priors', 'gt_instances', 'gt_instances_ignore')


def padding_anchors(
    featmap_sizes: Sequence[tuple[int, int]],
    strides: Sequence[tuple[int, int]],
    pad_shapes: Sequence[tuple[int, int]],
    anchors: Tensor,
) -> Tensor | None:
    """Anchors whose cell lies wholly in the padding up to the batch's largest image.

    Computed from shapes alone: on a GPU, a launch or two for each level that is
    padded.

    Args:
        featmap_sizes: (height, width) of each level.
        strides: (horizontal, vertical) of each level, in pixels.
        pad_shapes: (height, width) of each of B images, in pixels.
        anchors: (N, 4) of all levels, rows of a level first, the A of a cell side by
            side.

    Returns:
        (B, N) bool, or None where there is no such anchor.
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
                    excluded = torch.zeros(
                        (len(pad_shapes), len(anchors)),
                        dtype=torch.bool,
                        device=anchors.device,
                    )
                level = excluded[b, first:stop].view(height, width, -1)
                level[rows:] = True
                level[:rows, columns:] = True
            first = stop
    return excluded


def assign_one(
    assigner,
    priors: Tensor,
    num_level_priors: list[int],
    gt_instances: InstanceData,
    gt_instances_ignore: InstanceData | None,
) -> AssignResult:
    """Assign the anchors of one image by an assigner of mmdet's.

    Args:
        assigner: what ``train_cfg.assigner`` builds.
        priors: (N, 4) xyxy in pixels.
        num_level_priors: anchors of each level, for ``ATSSAssigner``.
        gt_instances: ``bboxes`` and ``labels``.
        gt_instances_ignore: ``bboxes`` of crowds, or None.

    Raises:
        TypeError: the assigner wants something that RetinaNet has not.
    """
    parameters = inspect.signature(assigner.assign).parameters.values()
    wanted = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    name = type(assigner).__name__
    if unknown := [parameter for parameter in wanted if parameter not in _GIVEN]:
        raise TypeError(
            f'RetinaHead cannot work with train_cfg.assigner={name}, which wants '
            f'{", ".join(unknown)}; use MaxIoUAssigner or ATSSAssigner'
        )
    arguments = dict(
        pred_instances=InstanceData(priors=priors),
        gt_instances=gt_instances,
        gt_instances_ignore=gt_instances_ignore,
    )
    if 'num_level_priors' in wanted:
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
