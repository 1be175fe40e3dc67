"""Max-IoU assignment of all anchors of one image."""

import argparse
from collections.abc import Iterator

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from focal_retinanet.models import MaxIoUAssigner
from harness.agreement import check_assigned, check_tensors
from harness.contest import (
    OURS,
    Case,
    Contestant,
    LeftOut,
    add_peers,
    import_peer,
)
from harness.inputs import make_anchors, make_objects

_ARGUMENTS = dict(pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1)
_NUM_CLASSES = 80
# mmdet keeps the corners, sides, area and union of each pair's overlap.
_BYTES_PER_PAIR = 36


def build(args: argparse.Namespace) -> Iterator[Case]:
    device = torch.device(args.device)
    anchors = make_anchors(args.height, args.width, device)
    for count in args.objects:
        objects = make_objects(count, args.height, args.width, _NUM_CLASSES, device)
        yield _case(args, anchors, objects)


def _case(args: argparse.Namespace, anchors: Tensor, objects: InstanceData) -> Case:
    priors = InstanceData(priors=anchors)

    def check_memory() -> None:
        needed = _BYTES_PER_PAIR * len(anchors) * len(objects) / 1e9
        if needed > args.max_memory:
            raise LeftOut(
                f'would need about {needed:.2g} GB, --max-memory is {args.max_memory:g}'
            )

    def mmdet() -> Contestant:
        check_memory()
        module = import_peer('mmdet.models.task_modules')
        assigner = module.MaxIoUAssigner(**_ARGUMENTS)
        return Contestant('mmdet', lambda: assigner.assign(priors, objects), _agree)

    def torchvision() -> Contestant:
        check_memory()
        ops = import_peer('torchvision.ops')
        matching = import_peer('torchvision.models.detection._utils')
        matcher = matching.Matcher(
            _ARGUMENTS['pos_iou_thr'],
            _ARGUMENTS['neg_iou_thr'],
            allow_low_quality_matches=True,
        )

        def run():
            if not len(objects):  # as its RetinaNet does
                return torch.full((len(anchors),), -1, device=anchors.device)
            return matcher(ops.box_iou(objects.bboxes, anchors))

        return Contestant(
            'torchvision',
            run,
            _agree_on_kinds,
            'compared as positive, negative, ignored: a low-quality match goes to '
            'the object that the anchor itself overlaps most; gives no labels',
        )

    ours = MaxIoUAssigner(**_ARGUMENTS)
    case = Case(
        'assign',
        dict(anchors=len(anchors), objects=len(objects), device=args.device),
        [Contestant(OURS, lambda: ours.assign(priors, objects))],
        # 16 bytes of an anchor read; index, IoU and label written.
        least_bytes=36 * len(anchors),
    )
    return add_peers(case, args.peers, dict(mmdet=mmdet, torchvision=torchvision))


def _agree(ours, theirs) -> str:
    check_tensors('IoU', ours.max_overlaps, theirs.max_overlaps, 1e-5, 1e-6)
    check_assigned('labels', ours.labels, theirs.labels)
    return check_assigned('objects', ours.gt_inds, theirs.gt_inds)


def _agree_on_kinds(ours, theirs: Tensor) -> str:
    # theirs: -1 below the low threshold, -2 between, otherwise the object.
    kinds = torch.where(theirs >= 0, 1, -1 - theirs).clamp(min=-1)
    kinds = torch.where(theirs == -2, -1, kinds)
    return check_assigned('kinds', ours.gt_inds.sign(), kinds)
