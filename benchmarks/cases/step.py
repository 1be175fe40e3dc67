"""A training step of a whole detector: forward, backward, SGD."""

import argparse
from collections.abc import Iterator

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import nn

from focal_retinanet.cli.errors import UserError
from harness.agreement import check_numbers
from harness.contest import (
    OURS,
    Case,
    Contestant,
    LeftOut,
    add_peers,
    import_peer,
)
from harness.detectors import build_detectors, is_resnet50
from harness.inputs import make_images

# So small that the weights, and with them the amount of work, stay as they are.
_SGD = dict(lr=1e-6, momentum=0.9, weight_decay=1e-4)


def build(args: argparse.Namespace) -> Iterator[Case]:
    if args.amp and args.device != 'cuda':
        raise UserError('--amp needs --device cuda')
    ours, stock, cfg = build_detectors(args)
    num_classes = cfg.model.bbox_head.num_classes
    data = make_images(args.batch, args.height, args.width, args.objects, num_classes)
    rtol = 3e-2 if args.amp else 1e-3

    def agree(ours: dict, theirs: dict) -> str:
        return check_numbers(ours, theirs, rtol)

    def contestant(name: str, model: nn.Module) -> Contestant:
        model.train()
        wrapper = _wrap(model, args.amp)

        def run():
            losses = model.train_step(data, wrapper)
            return {key: value.detach() for key, value in losses.items()}

        return Contestant(name, run, None if name == OURS else agree)

    def torchvision() -> Contestant:
        if not is_resnet50(cfg):
            raise LeftOut('its RetinaNet has a ResNet-50, this config has another')
        return _torchvision(args, data, num_classes)

    case = Case(
        'step',
        dict(
            config=args.config,
            batch=args.batch,
            height=args.height,
            width=args.width,
            objects='+'.join(str(len(s.gt_instances)) for s in data['data_samples']),
            amp='bf16' if args.amp else 'no',
            device=args.device,
        ),
        [contestant(OURS, ours)],
    )
    yield add_peers(
        case,
        args.peers,
        dict(mmdet=lambda: contestant('mmdet', stock), torchvision=torchvision),
    )


def _wrap(model: nn.Module, amp: bool) -> OptimWrapper:
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, **_SGD)
    if amp:
        return AmpOptimWrapper(optimizer=optimizer, dtype='bfloat16')
    return OptimWrapper(optimizer)


def _torchvision(args: argparse.Namespace, data: dict, num_classes: int) -> Contestant:
    detection = import_peer('torchvision.models.detection')
    device = torch.device(args.device)
    model = detection.retinanet_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=num_classes,
        min_size=min(args.height, args.width),
        max_size=max(args.height, args.width),
    )
    model.to(device).train()
    wrapper = _wrap(model, args.amp)

    def run():
        images = [image.to(device).float() / 255 for image in data['inputs']]
        targets = [
            dict(
                boxes=sample.gt_instances.bboxes.to(device),
                labels=sample.gt_instances.labels.to(device),
            )
            for sample in data['data_samples']
        ]
        with wrapper.optim_context(model):
            losses = model(images, targets)
        wrapper.update_params(sum(losses.values()))
        return losses

    return Contestant(
        'torchvision',
        run,
        note='weights of its own; trains all layers and batch norms, where the '
        'config may freeze some',
    )
