"""The head's targets and losses of level maps, forward and backward."""

import argparse
from collections.abc import Iterator

import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from torch import Tensor

from harness.agreement import RELATIVE_TOLERANCE, check_gradients, check_tensors
from harness.arguments import add_inputs, pick
from harness.contest import Case, Contestant
from harness.detectors import stock_config
from harness.inputs import DTYPES, image_metas, make_maps, make_objects, paper_head


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_inputs(parser, 'height', 'width', 'batch', 'objects', 'classes')
    add_inputs(parser, 'dtype', 'memory_format')


def make_cases(args: argparse.Namespace) -> Iterator[Case]:
    dtype, device = DTYPES[args.dtype], torch.device(args.device)
    logits = make_maps(args, args.classes, -4.6, 1.0, dtype)
    deltas = make_maps(args, 4, 0.0, 0.2, dtype)
    maps = [m.requires_grad_() for m in [*logits, *deltas]]
    counts = [args.objects[i % len(args.objects)] for i in range(args.batch)]
    size = (args.height, args.width)
    objects = [make_objects(count, *size, args.classes, device) for count in counts]
    yield Case(
        pick(args, 'batch', 'height', 'width', 'classes')
        | dict(objects='+'.join(map(str, counts)))
        | pick(args, 'dtype', 'memory_format', 'device'),
        (paper_head(args.classes), maps, objects, image_metas(args)),
        # The logits are read and all gradients written; few of the deltas are read.
        least_bytes=2 * sum(m.nbytes for m in logits) + sum(m.nbytes for m in deltas),
    )


def ours(
    config: ConfigDict, maps: list[Tensor], objects: list, metas: list[dict]
) -> Contestant:
    """Make the head of a config.

    Args:
        config: The head's config.
        maps: Logits of all levels, (B, 9 * K, H, W), then deltas, (B, 36, H, W).
        objects: InstanceData of each image, with ``bboxes`` and ``labels``.
        metas: Shape and scale of each image.
    """
    head = MODELS.build(config).to(maps[0].device)
    logits, deltas = maps[: len(maps) // 2], maps[len(maps) // 2 :]

    def run() -> tuple[Tensor, Tensor, list[Tensor]]:
        losses = head.loss_by_feat(logits, deltas, objects, metas)
        cls, bbox = (sum(losses[key]) for key in ('loss_cls', 'loss_bbox'))
        (cls + bbox).backward()
        gradients = [m.grad for m in maps]
        for m in maps:
            m.grad = None
        return cls.detach(), bbox.detach(), gradients

    return Contestant(run, _agree)


def mmdet(config: ConfigDict, *inputs) -> Contestant:
    return ours(stock_config(config), *inputs)


CONTESTANTS = dict(ours=ours, mmdet=mmdet)


def _agree(ours: tuple, theirs: tuple) -> str:
    rtol = RELATIVE_TOLERANCE[ours[2][0].dtype]
    cls = check_tensors('loss_cls', ours[0], theirs[0], rtol)
    bbox = check_tensors('loss_bbox', ours[1], theirs[1], rtol)
    return ', '.join([cls, bbox, check_gradients(ours[2], theirs[2])])
