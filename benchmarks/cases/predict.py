"""The head's detections from level maps: scores, top k, boxes, NMS."""

import argparse
from collections.abc import Iterator

import torch
from mmdet.registry import MODELS
from torch import nn

from cases.head import head_config, image_metas
from harness.agreement import check_detections
from harness.contest import OURS, Case, Contestant, add_peers
from harness.inputs import MEMORY_FORMATS, make_maps
from harness.stock import stock_config

# Mean and standard deviation of the logits. A score of 0.05 is a logit of -2.94.
_LOGITS = {'many': (-1.5, 0.6), 'few': (-6.66, 1.0)}


def build(args: argparse.Namespace) -> Iterator[Case]:
    device = torch.device(args.device)
    config = head_config(args.classes)
    layout = (torch.float32, MEMORY_FORMATS[args.memory_format], device)
    size = (args.height, args.width)
    logits = make_maps(args.batch, args.classes, *size, *_LOGITS[args.density], *layout)
    deltas = make_maps(args.batch, 4, *size, 0.0, 0.2, *layout)
    metas = image_metas(args)

    def contestant(name: str, head: nn.Module) -> Contestant:
        head.to(device).eval()

        @torch.no_grad()
        def run():
            return head.predict_by_feat(logits, deltas, batch_img_metas=metas)

        return Contestant(name, run, None if name == OURS else check_detections)

    case = Case(
        'predict',
        dict(
            batch=args.batch,
            height=args.height,
            width=args.width,
            classes=args.classes,
            density=args.density,
            memory_format=args.memory_format,
            device=args.device,
        ),
        [contestant(OURS, MODELS.build(config))],
        # All logits read; of the deltas those of a few thousand anchors.
        least_bytes=sum(m.numel() * m.element_size() for m in logits),
    )
    yield add_peers(
        case,
        args.peers,
        dict(mmdet=lambda: contestant('mmdet', MODELS.build(stock_config(config)))),
    )
