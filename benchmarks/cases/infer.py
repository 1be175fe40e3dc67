"""Detection by a whole detector, with or without the loading of the data."""

import argparse
from collections.abc import Iterator

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

from focal_retinanet.cli.errors import UserError
from harness.agreement import check_detections
from harness.contest import OURS, Case, Contestant, add_peers
from harness.detectors import build_detectors
from harness.inputs import make_images


def build(args: argparse.Namespace) -> Iterator[Case]:
    if args.with_data and args.synthetic:
        raise UserError('--with-data times the data set, which --synthetic has not')
    ours, stock, cfg = build_detectors(args, args.checkpoint)
    sizes = dict(config=args.config)
    if args.synthetic:
        batches = _synthetic_batches(args, cfg)
        sizes |= dict(
            images=sum(len(batch['inputs']) for batch in batches),
            batch=args.batch,
            height=args.height,
            width=args.width,
        )
    else:
        batches = _data_loader(cfg, args.images)
        sizes |= dict(
            images=len(batches.dataset),
            batch=cfg.val_dataloader.batch_size,
            data='loaded' if args.with_data else 'in memory',
        )
        if not args.with_data:
            batches = list(batches)

    def contestant(name: str, model: nn.Module) -> Contestant:
        model.eval()

        @torch.no_grad()
        def run():
            return [
                sample.pred_instances
                for batch in batches
                for sample in model.test_step(batch)
            ]

        return Contestant(name, run, None if name == OURS else check_detections)

    case = Case('infer', sizes | dict(device=args.device), [contestant(OURS, ours)])
    yield add_peers(case, args.peers, dict(mmdet=lambda: contestant('mmdet', stock)))


def _synthetic_batches(args: argparse.Namespace, cfg: Config) -> list[dict]:
    num_classes = cfg.model.bbox_head.num_classes
    starts = range(0, args.images, args.batch)
    return [
        make_images(
            min(args.batch, args.images - start),
            args.height,
            args.width,
            [0],
            num_classes,
        )
        for start in starts
    ]


def _data_loader(cfg: Config, images: int):
    """The validation data of a config, its first images alone."""
    loader = cfg.val_dataloader
    loader.dataset.indices = images
    return Runner.build_dataloader(loader)
