"""Non-maximum suppression of a batch of images at once (section 4.1)."""

import math
from collections.abc import Sequence

import torch
from mmcv.ops import batched_nms
from mmcv.ops import nms as mmcv_nms
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from focal_retinanet.ops.nms import native as nms_native

# More boxes than this are not compared all with all; mmcv's default.
_SPLIT_THR = 10000


def batch_nms(
    batch: Sequence[InstanceData], nms: dict | None, max_per_img: int, num_classes: int
) -> list[InstanceData]:
    """The detections of B images that stay, best score first.

    Args:
        batch: ``bboxes`` (n, 4) xyxy, ``scores`` (n,) and ``labels`` (n,) of
            each image; n may be 0.
        nms: ``test_cfg.nms``: type, ``iou_threshold``, ``class_agnostic``, and
            what else mmcv's ``batched_nms`` takes; None for no suppression.
        max_per_img: most detections of an image.
        num_classes: K.

    Returns:
        For each image the same fields.
    """
    counts = [len(results) for results in batch]
    limit = max_per_img if max_per_img > 0 else sum(counts)
    if not batch or not _is_plain(nms):
        return [_one_image(results, nms, limit) for results in batch]
    bboxes = torch.cat([get_box_tensor(results.bboxes) for results in batch])
    bboxes = bboxes.detach().float()  # the type that the operators take
    fits_at_once = len(bboxes) < nms.get('split_thr', _SPLIT_THR)
    is_native = nms_native.is_available(bboxes)
    if not is_native and not (_host_waits(bboxes) and fits_at_once):
        return [_one_image(results, nms, limit) for results in batch]

    scores = torch.cat([results.scores.detach() for results in batch])
    images = torch.cat(
        [
            torch.full_like(results.labels, b, dtype=torch.int64)
            for b, results in enumerate(batch)
        ]
    )
    groups, num_groups = images, len(batch)
    if not nms.get('class_agnostic', False):
        labels = torch.cat([results.labels for results in batch])
        groups, num_groups = images * num_classes + labels, len(batch) * num_classes
    if is_native:
        keep = nms_native.grouped_nms(
            bboxes, scores, groups, nms['iou_threshold'], limit
        )
    else:
        keep = _shifted_nms(bboxes, scores, groups, num_groups, nms['iou_threshold'])
    by_image = keep[images[keep].argsort(stable=True)]
    # Counted by comparison: bincount would make the host wait once more.
    of_image = torch.arange(len(batch), device=images.device)[:, None] == images[keep]
    kept = of_image.sum(dim=1).tolist()
    firsts = [sum(counts[:b]) for b in range(len(batch))]
    return [
        _with_scores(results[indices[:limit] - first])
        for results, indices, first in zip(
            batch, by_image.split(kept), firsts, strict=True
        )
    ]


def _is_plain(nms: dict | None) -> bool:
    """Whether the suppression is the usual one, by an IoU threshold alone."""
    known = {'type', 'iou_threshold', 'class_agnostic', 'split_thr'}
    return (
        nms is not None
        and 'iou_threshold' in nms
        and set(nms) <= known
        and nms.get('type', 'nms') == 'nms'
    )


def _host_waits(bboxes: Tensor) -> bool:
    """Whether each suppression makes the host wait, so that one for all pays."""
    return bboxes.is_cuda


def _one_image(results: InstanceData, nms: dict | None, limit: int) -> InstanceData:
    if not len(results):
        return _with_scores(results)
    bboxes = get_box_tensor(results.bboxes).detach().float()
    detections, keep = batched_nms(bboxes, results.scores, results.labels, nms)
    results = _with_scores(results[keep])
    if nms is not None and nms.get('type', 'nms') != 'nms':  # soft NMS changes them
        results.scores = detections[:, -1].to(results.scores)
    return results[:limit]


def _with_scores(results: InstanceData) -> InstanceData:
    """With scores of the boxes' type if that is wider, as mmcv returns them."""
    bboxes, scores = get_box_tensor(results.bboxes), results.scores
    dtype = torch.promote_types(bboxes.dtype, scores.dtype)
    if dtype != scores.dtype:
        results = results[:]  # the caller's stay as they are
        results.scores = scores.to(dtype)
    return results


def _shifted_nms(
    bboxes: Tensor, scores: Tensor, groups: Tensor, num_groups: int, threshold: float
) -> Tensor:
    """Indices that stay, best score first, by one call for all groups.

    Each group is shifted to a place of its own where it meets no other. The
    places form a square around the origin, since far from it fp32 has fewer
    digits: a row of 80 classes and 16 images would end at a million pixels, the
    square at 25,000. Where scores are alike the earlier box is the better one,
    as on a CPU.
    """
    if not len(bboxes):
        return groups
    side = math.ceil(math.sqrt(num_groups))
    # A box at infinity must not take the others' digits.
    finite = torch.where(bboxes.isfinite(), bboxes, 0.0)
    extent = finite.max() - finite.min() + 1
    column, row = groups % side - side // 2, groups // side - side // 2
    shift = torch.stack([column, row, column, row], dim=1) * extent
    order = scores.argsort(descending=True, stable=True)
    rank = torch.arange(len(order), dtype=torch.float32, device=order.device)
    return order[mmcv_nms((bboxes + shift)[order], -rank, threshold)[1]]
