"""A training step of a whole detector: forward, backward, SGD."""

import argparse
from collections.abc import Iterator

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import nn

from focal_retinanet.cli.errors import UserError
from harness import detectors
from harness.agreement import check_numbers
from harness.arguments import add_inputs, pick
from harness.contest import Case, Contestant, LeftOut, import_peer
from harness.detectors import Detectors
from harness.inputs import make_images

# So small that the weights, and with them the amount of work, hardly change.
_SGD = dict(lr=1e-6, momentum=0.9, weight_decay=1e-4)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    detectors.add_arguments(parser)
    add_inputs(parser, 'height', 'width', 'batch', 'objects')
    text = 'mixed precision, bf16 (needs a GPU)'
    parser.add_argument('--amp', action='store_true', help=text)


def make_cases(args: argparse.Namespace) -> Iterator[Case]:
    if args.amp and args.device != 'cuda':
        raise UserError('--amp needs --device cuda')
    built = detectors.build_detectors(args)
    data = make_images(
        args.batch, args.height, args.width, args.objects, built.num_classes
    )
    objects = '+'.join(str(len(s.gt_instances)) for s in data['data_samples'])
    yield Case(
        pick(args, 'config', 'batch', 'height', 'width')
        | dict(objects=objects, amp='bf16' if args.amp else 'no', device=args.device),
        (built, data, args),
    )


def ours(built: Detectors, data: dict, args: argparse.Namespace) -> Contestant:
    return _train_step(built.ours, data, args.amp)


def mmdet(built: Detectors, data: dict, args: argparse.Namespace) -> Contestant:
    return _train_step(built.stock, data, args.amp)


def torchvision(built: Detectors, data: dict, args: argparse.Namespace) -> Contestant:
    backbone = built.cfg.model.backbone
    if (backbone.type, backbone.get('depth')) != ('ResNet', 50):
        raise LeftOut('its RetinaNet has a ResNet-50, this config has another')
    detection = import_peer('torchvision.models.detection')
    model = detection.retinanet_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=built.num_classes,
        min_size=min(args.height, args.width),
        max_size=max(args.height, args.width),
    )
    model.to(args.device).train()
    optim_wrapper = _wrap_optimizer(model, args.amp)

    def run() -> dict:
        images = [image.to(args.device).float() / 255 for image in data['inputs']]
        objects = [s.gt_instances.to(args.device) for s in data['data_samples']]
        targets = [dict(boxes=o.bboxes, labels=o.labels) for o in objects]
        with optim_wrapper.optim_context(model):
            losses = model(images, targets)
        optim_wrapper.update_params(sum(losses.values()))
        return losses

    note = (
        'weights of its own; trains all layers and batch norms, where the config may '
        'freeze some'
    )
    return Contestant(run, note=note)


CONTESTANTS = dict(ours=ours, mmdet=mmdet, torchvision=torchvision)


def _train_step(model: nn.Module, data: dict, amp: bool) -> Contestant:
    model.train()
    optim_wrapper = _wrap_optimizer(model, amp)

    def run() -> dict:
        losses = model.train_step(data, optim_wrapper)
        return {key: value.detach() for key, value in losses.items()}

    rtol = 3e-2 if amp else 1e-3
    return Contestant(run, lambda ours, theirs: check_numbers(ours, theirs, rtol))


def _wrap_optimizer(model: nn.Module, amp: bool) -> OptimWrapper:
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, **_SGD)
    if amp:
        return AmpOptimWrapper(optimizer=optimizer, dtype='bfloat16')
    return OptimWrapper(optimizer)
