"""Non-maximum suppression of a batch of images at once (section 4.1)."""

import math
from collections.abc import Sequence

import torch
from mmcv.ops import batched_nms
from mmcv.ops import nms as mmcv_nms
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from focal_retinanet.ops import nms_native

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
    if not _is_plain(nms):
        return [_one_image(results, nms, limit) for results in batch]
    bboxes = torch.cat([get_box_tensor(results.bboxes) for results in batch])
    fits_at_once = len(bboxes) < nms.get('split_thr', _SPLIT_THR)
    is_native = nms_native.is_available(bboxes)
    if not is_native and not (bboxes.is_cuda and fits_at_once):
        return [_one_image(results, nms, limit) for results in batch]

    scores = torch.cat([results.scores for results in batch])
    images = torch.repeat_interleave(
        torch.arange(len(batch), device=bboxes.device),
        torch.tensor(counts, device=bboxes.device),
        output_size=sum(counts),
    )
    groups, num_groups = images, len(batch)
    if not nms.get('class_agnostic', False):
        labels = torch.cat([results.labels for results in batch])
        groups, num_groups = images * num_classes + labels, len(batch) * num_classes
    if is_native:
        keep = nms_native.grouped_nms(
            bboxes, scores.float(), groups, nms['iou_threshold'], limit
        )
    else:
        keep = _shifted_nms(bboxes, scores, groups, num_groups, nms['iou_threshold'])
    by_image = keep[images[keep].argsort(stable=True)]
    kept = torch.bincount(images[keep], minlength=len(batch)).tolist()
    firsts = [sum(counts[:b]) for b in range(len(batch))]
    return [
        results[indices[:limit] - first]
        for results, indices, first in zip(
            batch, by_image.split(kept), firsts, strict=True
        )
    ]


def _is_plain(nms: dict | None) -> bool:
    """Whether the suppression is the usual one, by an IoU threshold alone."""
    known = {'type', 'iou_threshold', 'class_agnostic', 'split_thr'}
    return nms is not None and set(nms) <= known and nms.get('type', 'nms') == 'nms'


def _one_image(results: InstanceData, nms: dict | None, limit: int) -> InstanceData:
    if not len(results):
        return results
    bboxes = get_box_tensor(results.bboxes)
    detections, keep = batched_nms(bboxes, results.scores, results.labels, nms)
    results = results[keep]
    results.scores = detections[:, -1]  # soft NMS has changed them
    return results[:limit]


def _shifted_nms(
    bboxes: Tensor, scores: Tensor, groups: Tensor, num_groups: int, threshold: float
) -> Tensor:
    """Indices that stay, best score first, by one call for all groups.

    Each group is shifted to a place of its own where it meets no other. The
    places form a square, since far from the origin fp32 has fewer digits: a
    row of 80 classes and 16 images would end at a million pixels.
    """
    if not len(bboxes):
        return groups
    side = math.ceil(math.sqrt(num_groups))
    extent = bboxes.max() - bboxes.min() + 1
    column, row = groups % side * extent, groups // side * extent
    shift = torch.stack([column, row, column, row], dim=1)
    return mmcv_nms(bboxes + shift, scores, threshold)[1]
