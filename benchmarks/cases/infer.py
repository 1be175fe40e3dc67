"""Detection by a whole detector, with or without the loading of the data."""

import argparse
from collections.abc import Iterable, Iterator

import torch
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch import nn

from focal_retinanet.acceleration.fast_conv import freeze_weights
from focal_retinanet.cli.errors import UserError
from harness import detectors
from harness.agreement import check_detections
from harness.arguments import add_inputs, pick, positive
from harness.contest import Case, Contestant
from harness.detectors import Detectors
from harness.inputs import make_images


def add_arguments(parser: argparse.ArgumentParser) -> None:
    detectors.add_arguments(parser)
    add = parser.add_argument
    add('--checkpoint', help='checkpoint file (default: random weights)')
    text = 'load any checkpoint file, running whatever code it holds'
    add('--unsafe-checkpoint', action='store_true', help=text)
    add('--images', type=positive, default=16, help='number of images')
    add('--with-data', action='store_true', help='time the loading of the data too')
    add(
        '--synthetic',
        action='store_true',
        help='use images of noise instead of the data set',
    )
    add_inputs(parser, 'height', 'width', 'batch', batch=1)  # of noise


def make_cases(args: argparse.Namespace) -> Iterator[Case]:
    if args.with_data and args.synthetic:
        raise UserError('--with-data needs a data set, and --synthetic uses none')
    built = detectors.build_detectors(args, args.checkpoint, args.unsafe_checkpoint)
    if args.synthetic:
        batches = list(_draw(args, built.num_classes))
        sizes = pick(args, 'images', 'batch', 'height', 'width')
    else:
        loader = built.cfg.val_dataloader
        loader.dataset.indices = args.images  # the first ones
        batches = Runner.build_dataloader(loader)
        sizes = dict(
            images=len(batches.dataset),
            batch=loader.batch_size,
            data='loaded' if args.with_data else 'in memory',
        )
        if not args.with_data:
            batches = list(batches)
    sizes = dict(config=args.config) | sizes | dict(device=args.device)
    yield Case(sizes, (built, batches))


def ours(built: Detectors, batches: Iterable[dict]) -> Contestant:
    freeze_weights(built.ours)  # as the runner does for a test
    return _test_loop(built.ours, batches)


def mmdet(built: Detectors, batches: Iterable[dict]) -> Contestant:
    return _test_loop(built.stock, batches)


CONTESTANTS = dict(ours=ours, mmdet=mmdet)


def _draw(args: argparse.Namespace, num_classes: int) -> Iterator[dict]:
    """Draw batches of noise; the last one may be smaller."""
    for start in range(0, args.images, args.batch):
        count = min(args.batch, args.images - start)
        yield make_images(count, args.height, args.width, [0], num_classes)


def _test_loop(model: nn.Module, batches: Iterable[dict]) -> Contestant:
    model.eval()

    @torch.no_grad()
    def run() -> list[InstanceData]:
        return [
            sample.pred_instances
            for batch in batches
            for sample in model.test_step(batch)
        ]

    return Contestant(run, check_detections)
