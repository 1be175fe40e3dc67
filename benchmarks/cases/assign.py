"""Max-IoU assignment of all anchors of one image."""

import argparse
from collections.abc import Iterator

import torch
from mmdet.registry import TASK_UTILS
from mmengine.structures import InstanceData
from torch import Tensor

from harness.agreement import check_assigned, check_tensors
from harness.arguments import add_inputs, not_negative, numbers
from harness.contest import Case, Contestant, LeftOut, import_peer
from harness.detectors import stock_config
from harness.inputs import make_anchors, make_objects, paper_model

_NUM_CLASSES = 80
# mmdet keeps the corners, sides, area and union of each pair's overlap.
_BYTES_PER_PAIR = 36


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_inputs(parser, 'height', 'width')
    add, counts = parser.add_argument, numbers(not_negative)
    text = 'objects in the image; a case for each number'
    add('--objects', type=counts, default='300', metavar='M,M,...', help=text)
    text = 'leave out peers that need more, at 36 bytes a pair of anchor and object'
    add('--max-memory', type=float, default=16.0, metavar='GB', help=text)


def make_cases(args: argparse.Namespace) -> Iterator[Case]:
    size, device = (args.height, args.width), torch.device(args.device)
    anchors = make_anchors(*size, device)  # (N, 4) xyxy
    for count in args.objects:
        objects = make_objects(count, *size, _NUM_CLASSES, device)
        yield Case(
            dict(anchors=len(anchors), objects=count, device=args.device),
            (anchors, objects, args.max_memory),
            # 16 bytes of an anchor are read; index, IoU and label are written.
            least_bytes=36 * len(anchors),
        )


def ours(anchors: Tensor, objects: InstanceData, max_memory: float) -> Contestant:
    return _assigner(anchors, objects, paper_model().train_cfg.assigner)


def mmdet(anchors: Tensor, objects: InstanceData, max_memory: float) -> Contestant:
    _check_memory(anchors, objects, max_memory)
    config = stock_config(paper_model().train_cfg.assigner)
    return _assigner(anchors, objects, config)


def torchvision(
    anchors: Tensor, objects: InstanceData, max_memory: float
) -> Contestant:
    _check_memory(anchors, objects, max_memory)
    box_iou = import_peer('torchvision.ops').box_iou
    matching = import_peer('torchvision.models.detection._utils')
    config = paper_model().train_cfg.assigner
    matcher = matching.Matcher(
        config.pos_iou_thr, config.neg_iou_thr, allow_low_quality_matches=True
    )

    def run() -> Tensor:
        if not len(objects):  # its RetinaNet does so
            return torch.full((len(anchors),), -1, device=anchors.device)
        return matcher(box_iou(objects.bboxes, anchors))

    return Contestant(
        run,
        _agree_on_kinds,
        'compared as positive, negative, ignored: a low-quality match goes to the '
        'object that the anchor itself overlaps most; gives no labels',
    )


CONTESTANTS = dict(ours=ours, mmdet=mmdet, torchvision=torchvision)


def _assigner(anchors: Tensor, objects: InstanceData, config: dict) -> Contestant:
    assigner = TASK_UTILS.build(config)
    priors = InstanceData(priors=anchors)
    return Contestant(lambda: assigner.assign(priors, objects), _agree)


def _check_memory(anchors: Tensor, objects: InstanceData, max_memory: float) -> None:
    needed = _BYTES_PER_PAIR * len(anchors) * len(objects) / 1e9
    if needed > max_memory:
        raise LeftOut(
            f'would need about {needed:.2g} GB, --max-memory is {max_memory:g}'
        )


def _agree(ours, theirs) -> str:
    check_tensors('IoU', ours.max_overlaps, theirs.max_overlaps, 1e-5, 1e-6)
    check_assigned('labels', ours.labels, theirs.labels)
    return check_assigned('objects', ours.gt_inds, theirs.gt_inds)


def _agree_on_kinds(ours, theirs: Tensor) -> str:
    # torchvision: -1 below the low threshold, -2 between the two, else the object.
    # mmdet: 0 for negatives, -1 for ignored anchors, else the object from 1 on.
    kinds = torch.where(theirs >= 0, 1, theirs + 1)
    return check_assigned('kinds', ours.gt_inds.sign(), kinds)
