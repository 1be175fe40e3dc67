"""Non-maximum suppression (section 4.1): the compiled kernel, or else mmcv's operator."""

import math
from collections.abc import Callable, Mapping, Sequence

import mmcv.ops
import torch
from mmcv.ops import batched_nms
from mmcv.ops import nms as mmcv_nms
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from focal_retinanet.ops.nms import native

# mmcv splits the boxes by class above this number; its default.
_SPLIT_THR = 10000


def nms(bboxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Suppress boxes of one group.

    Args:
        bboxes: Boxes (N, 4), xyxy, fp32.
        scores: Scores (N,).
        iou_threshold: IoU with a better box above which a box is suppressed.

    Returns:
        Indices (M,) of the boxes that stay, int64, best score first.
    """
    if native.is_available(bboxes):
        group = torch.zeros(len(bboxes), dtype=torch.int64, device=bboxes.device)
        return native.grouped_nms(bboxes, scores, group, iou_threshold, len(bboxes))
    return mmcv_nms(bboxes, scores, iou_threshold)[1]


def batch_nms(
    batch: Sequence[InstanceData],
    nms_cfg: dict | None,
    max_per_img: int,
    num_classes: int,
) -> list[InstanceData]:
    """Suppress detections of B images in one call.

    Args:
        batch: ``bboxes`` (n, 4), xyxy, ``scores`` (n,) and ``labels`` (n,) of each
            image; n may be 0.
        nms_cfg: ``test_cfg.nms``: ``type``, ``iou_threshold``, ``class_agnostic``, and
            other arguments of mmcv's ``batched_nms``; None for no suppression.
        max_per_img: Highest number of detections per image; all if not positive.
        num_classes: Number of classes K.

    Returns:
        Same fields for each image, best score first.
    """
    counts = [len(results) for results in batch]
    limit = max_per_img if max_per_img > 0 else sum(counts)
    if nms_cfg is not None:
        nms_cfg = dict(nms_cfg, type=nms_type(nms_cfg))
    if not batch or not _is_plain(nms_cfg):
        return [_one_image(results, nms_cfg, limit) for results in batch]
    bboxes = torch.cat([get_box_tensor(results.bboxes) for results in batch])
    bboxes = bboxes.detach().float()  # the dtype of the operators
    fits_at_once = len(bboxes) < nms_cfg.get('split_thr', _SPLIT_THR)
    is_native = native.is_available(bboxes)
    is_one_call = len(batch) > 1 and _host_waits(bboxes) and fits_at_once
    if not is_native and not is_one_call:
        return [_one_image(results, nms_cfg, limit) for results in batch]

    scores = torch.cat([results.scores.detach() for results in batch])
    images = torch.cat(
        [
            torch.full_like(results.labels, b, dtype=torch.int64)
            for b, results in enumerate(batch)
        ]
    )
    groups, num_groups = images, len(batch)
    if not nms_cfg.get('class_agnostic', False):
        labels = torch.cat([results.labels for results in batch])
        groups, num_groups = images * num_classes + labels, len(batch) * num_classes
    if is_native:
        keep = native.grouped_nms(
            bboxes, scores, groups, nms_cfg['iou_threshold'], limit
        )
    else:
        keep = _shifted_nms(
            bboxes, scores, groups, num_groups, nms_cfg['iou_threshold']
        )
    by_image = keep[images[keep].argsort(stable=True)]
    # Counted by comparison, because bincount would make the host wait once more.
    of_image = torch.arange(len(batch), device=images.device)[:, None] == images[keep]
    kept = of_image.sum(dim=1).tolist()
    firsts = [sum(counts[:b]) for b in range(len(batch))]
    return [
        _with_scores(results[indices[:limit] - first])
        for results, indices, first in zip(
            batch, by_image.split(kept), firsts, strict=True
        )
    ]


def nms_type(nms_cfg: Mapping) -> str | Callable:
    """Return the ``type`` of a suppression, for mmcv's functions their name in mmcv.

    A config of mmdet's new style has the function, and a copy of it, as in a work
    directory, the function's path, which mmcv itself does not know.
    """
    kind = nms_cfg.get('type', 'nms')
    if isinstance(kind, str):
        return kind.rpartition('.')[2] if kind.startswith('mmcv.ops.') else kind
    name = getattr(kind, '__name__', '')
    return name if getattr(mmcv.ops, name, None) is kind else kind


def _is_plain(nms_cfg: dict | None) -> bool:
    """Whether suppression is the usual one, by an IoU threshold only."""
    known = {'type', 'iou_threshold', 'class_agnostic', 'split_thr'}
    return (
        nms_cfg is not None
        and 'iou_threshold' in nms_cfg
        and set(nms_cfg) <= known
        and nms_cfg['type'] == 'nms'
    )


def _host_waits(bboxes: Tensor) -> bool:
    """Whether the host waits for each suppression, so that one call for all pays."""
    return bboxes.is_cuda


def _one_image(results: InstanceData, nms_cfg: dict | None, limit: int) -> InstanceData:
    if not len(results):
        return _with_scores(results)
    bboxes = get_box_tensor(results.bboxes).detach().float()
    detections, keep = batched_nms(bboxes, results.scores, results.labels, nms_cfg)
    results = _with_scores(results[keep])
    if nms_cfg is not None and nms_cfg['type'] != 'nms':  # soft NMS
        results.scores = detections[:, -1].to(results.scores)
    return results[:limit]


def _with_scores(results: InstanceData) -> InstanceData:
    """Return the results with scores of at least the boxes' dtype, as mmcv does."""
    bboxes, scores = get_box_tensor(results.bboxes), results.scores
    dtype = torch.promote_types(bboxes.dtype, scores.dtype)
    if dtype != scores.dtype:
        results = results[:]  # a copy, so that the caller's do not change
        results.scores = scores.to(dtype)
    return results


def _shifted_nms(
    bboxes: Tensor, scores: Tensor, groups: Tensor, num_groups: int, threshold: float
) -> Tensor:
    """Suppress boxes of all groups in one call of mmcv's operator.

    Each group is shifted so that it does not touch any other. The groups form a square
    around the origin, because fp32 has fewer digits far from it: a row of 80 classes
    and 16 images would end at a million pixels, the square at 25,000. Among equal
    scores, the earlier box is better, as on a CPU.
    """
    if not len(bboxes):
        return groups
    side = math.ceil(math.sqrt(num_groups))
    # A box at infinity must not cost the others their digits.
    finite = torch.where(bboxes.isfinite(), bboxes, 0.0)
    extent = finite.max() - finite.min() + 1
    column, row = groups % side - side // 2, groups // side - side // 2
    shift = torch.stack([column, row, column, row], dim=1) * extent
    order = scores.argsort(descending=True, stable=True)
    rank = torch.arange(len(order), dtype=torch.float32, device=order.device)
    return order[mmcv_nms((bboxes + shift)[order], -rank, threshold)[1]]
