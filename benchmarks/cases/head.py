"""The head's loss of level maps, forward and backward."""

import argparse
from collections.abc import Iterator

import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from torch import nn

from harness.agreement import (
    RELATIVE_TOLERANCE,
    check_gradients,
    check_tensors,
)
from harness.contest import OURS, Case, Contestant, add_peers
from harness.inputs import (
    ANCHOR_GENERATOR,
    DTYPES,
    MEMORY_FORMATS,
    make_maps,
    make_objects,
)
from harness.stock import stock_config


def head_config(num_classes: int) -> ConfigDict:
    """The paper's head without its subnets, whose outputs are drawn here."""
    return ConfigDict(
        type='focal_retinanet.RetinaHead',
        num_classes=num_classes,
        in_channels=1,
        feat_channels=1,
        stacked_convs=0,
        anchor_generator=dict(type='focal_retinanet.AnchorGenerator')
        | ANCHOR_GENERATOR,
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(
            type='focal_retinanet.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25
        ),
        loss_bbox=dict(type='SmoothL1Loss', beta=1 / 9),
        train_cfg=dict(
            assigner=dict(
                type='focal_retinanet.MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.4,
                min_pos_iou=0,
                ignore_iof_thr=-1,
            ),
            sampler=dict(type='PseudoSampler'),
            allowed_border=-1,
            pos_weight=-1,
        ),
        test_cfg=dict(
            nms_pre=1000,
            min_bbox_size=0,
            score_thr=0.05,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=100,
        ),
    )


def image_metas(args: argparse.Namespace) -> list[dict]:
    shape = (args.height, args.width)
    return [
        dict(img_shape=shape, pad_shape=shape, scale_factor=(1.0, 1.0))
        for _ in range(args.batch)
    ]


def build(args: argparse.Namespace) -> Iterator[Case]:
    device, dtype = torch.device(args.device), DTYPES[args.dtype]
    config = head_config(args.classes)
    layout = (dtype, MEMORY_FORMATS[args.memory_format], device)
    size = (args.height, args.width)
    logits = make_maps(args.batch, args.classes, *size, -4.6, 1.0, *layout)
    deltas = make_maps(args.batch, 4, *size, 0.0, 0.2, *layout)
    maps = [m.requires_grad_() for m in [*logits, *deltas]]
    objects = [
        make_objects(args.objects[i % len(args.objects)], *size, args.classes, device)
        for i in range(args.batch)
    ]
    metas = image_metas(args)

    def contestant(name: str, head: nn.Module) -> Contestant:
        head.to(device)

        def run():
            losses = head.loss_by_feat(logits, deltas, objects, metas)
            cls, bbox = (sum(losses[key]) for key in ('loss_cls', 'loss_bbox'))
            (cls + bbox).backward()
            gradients = [m.grad for m in maps]
            for m in maps:
                m.grad = None
            return cls.detach(), bbox.detach(), gradients

        return Contestant(name, run, None if name == OURS else _agree)

    def total(tensors) -> int:
        return sum(t.numel() * t.element_size() for t in tensors)

    case = Case(
        'head',
        dict(
            batch=args.batch,
            height=args.height,
            width=args.width,
            classes=args.classes,
            objects='+'.join(str(len(o)) for o in objects),
            dtype=args.dtype,
            memory_format=args.memory_format,
            device=args.device,
        ),
        [contestant(OURS, MODELS.build(config))],
        # Logits read, all gradients written; of the deltas few are looked at.
        least_bytes=2 * total(logits) + total(deltas),
    )
    yield add_peers(
        case,
        args.peers,
        dict(mmdet=lambda: contestant('mmdet', MODELS.build(stock_config(config)))),
    )


def _agree(ours: tuple, theirs: tuple) -> str:
    rtol = RELATIVE_TOLERANCE[ours[2][0].dtype]
    cls = check_tensors('loss_cls', ours[0], theirs[0], rtol)
    bbox = check_tensors('loss_bbox', ours[1], theirs[1], rtol)
    return ', '.join([cls, bbox, check_gradients(ours[2], theirs[2])])
