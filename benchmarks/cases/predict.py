"""The head's detections from level maps: scores, top k, boxes, NMS."""

import argparse
from collections.abc import Iterator

import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from harness.agreement import check_detections
from harness.arguments import add_inputs, pick
from harness.contest import Case, Contestant
from harness.detectors import stock_config
from harness.inputs import image_metas, make_maps, paper_head

# Mean and standard deviation of the logits. A score of 0.05 is a logit of -2.94.
_LOGITS = {'many': (-1.5, 0.6), 'few': (-6.66, 1.0)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = ('height', 'width', 'batch', 'classes', 'memory_format')
    add_inputs(parser, *names, batch=1)
    text = 'scores above 0.05: nearly all of them, or one in 10,000'
    parser.add_argument('--density', choices=_LOGITS, default='few', help=text)


def make_cases(args: argparse.Namespace) -> Iterator[Case]:
    logits = make_maps(args, args.classes, *_LOGITS[args.density])
    deltas = make_maps(args, 4, 0.0, 0.2)
    names = ('batch', 'height', 'width', 'classes', 'density', 'memory_format')
    yield Case(
        pick(args, *names, 'device'),
        (paper_head(args.classes), logits, deltas, image_metas(args)),
        # All logits are read, and the deltas of a few thousand anchors.
        least_bytes=sum(m.nbytes for m in logits),
    )


def ours(
    config: ConfigDict, logits: list[Tensor], deltas: list[Tensor], metas: list[dict]
) -> Contestant:
    head = MODELS.build(config).to(logits[0].device).eval()

    @torch.no_grad()
    def run() -> list[InstanceData]:
        return head.predict_by_feat(logits, deltas, batch_img_metas=metas)

    return Contestant(run, check_detections)


def mmdet(config: ConfigDict, *inputs) -> Contestant:
    return ours(stock_config(config), *inputs)


CONTESTANTS = dict(ours=ours, mmdet=mmdet)
