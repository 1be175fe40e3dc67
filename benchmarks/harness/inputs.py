"""Random inputs on the paper's levels and anchors."""

import argparse
import copy
import functools
from collections.abc import Sequence
from pathlib import Path

import torch
from mmdet.registry import TASK_UTILS
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

import focal_retinanet.models  # noqa: F401  # registers the components

ROOT = Path(__file__).parents[2]
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
MEMORY_FORMATS = {
    'contiguous': torch.contiguous_format,
    'channels_last': torch.channels_last,
}


@functools.cache
def paper_model() -> ConfigDict:
    """Return the config of the paper's model; copy it before you change it."""
    file = ROOT / 'configs' / '_base_' / 'models' / 'retinanet_r50_fpn.py'
    return Config.fromfile(file).model


def paper_head(num_classes: int) -> ConfigDict:
    """Return the config of the paper's head without its subnets.

    The maps that the subnets would give are drawn by :func:`make_maps`.
    """
    model = copy.deepcopy(paper_model())
    return ConfigDict(
        model.bbox_head,
        num_classes=num_classes,
        in_channels=1,
        feat_channels=1,
        stacked_convs=0,
        train_cfg=model.train_cfg,
        test_cfg=model.test_cfg,
    )


def make_anchors(height: int, width: int, device: torch.device) -> Tensor:
    """Return the paper's anchors of an image, (N, 4) xyxy in pixels."""
    generator = _anchor_generator()
    return torch.cat(generator.grid_priors(_level_sizes(height, width), device=device))


def make_objects(
    count: int, height: int, width: int, num_classes: int, device: torch.device
) -> InstanceData:
    """Draw objects inside an image, from 16 pixels to half of its shorter side.

    Returns:
        ``bboxes``, (count, 4) xyxy in pixels, and ``labels``, (count,) int64.
    """
    low, high = 16.0, max(16.0, min(height, width) / 2)
    sides = low * (high / low) ** torch.rand(count)  # sqrt(area)
    aspect = 2 ** (torch.rand(count) * 2 - 1)  # 0.5 to 2
    w = (sides * aspect.sqrt()).clamp(max=width)
    h = (sides / aspect.sqrt()).clamp(max=height)
    x, y = torch.rand(count) * (width - w), torch.rand(count) * (height - h)
    return InstanceData(
        bboxes=torch.stack([x, y, x + w, y + h], dim=1).to(device),
        labels=torch.randint(num_classes, (count,)).to(device),
    )


def make_maps(
    args: argparse.Namespace,
    channels: int,
    mean: float,
    std: float,
    dtype: torch.dtype = torch.float32,
) -> list[Tensor]:
    """Draw a (batch, 9 * channels, H, W) map of normal numbers for each level."""
    (num_anchors,) = set(_anchor_generator().num_base_priors)
    memory_format = MEMORY_FORMATS[args.memory_format]
    return [
        torch.randn(args.batch, num_anchors * channels, *size)
        .mul_(std)
        .add_(mean)
        .to(args.device, dtype, memory_format=memory_format)
        for size in _level_sizes(args.height, args.width)
    ]


def image_metas(args: argparse.Namespace) -> list[dict]:
    """Return what mmdet's heads ask of each image of a batch."""
    shape = (args.height, args.width)
    meta = dict(img_shape=shape, pad_shape=shape, scale_factor=(1.0, 1.0))
    return [dict(meta) for _ in range(args.batch)]


def make_images(
    batch: int, height: int, width: int, objects: Sequence[int], num_classes: int
) -> dict:
    """Draw a batch of noise in the form that a data loader gives, on the CPU.

    Args:
        batch: Number of images.
        height, width: Size of the images in pixels.
        objects: Numbers of objects, which the images take in turn.
        num_classes: Number of the objects' classes.

    Returns:
        ``inputs``, a (3, height, width) uint8 tensor per image, and
        ``data_samples``.
    """
    size = (height, width)
    data = dict(inputs=[], data_samples=[])
    for index in range(batch):
        data['inputs'].append(torch.randint(256, (3, *size), dtype=torch.uint8))
        shapes = dict(ori_shape=size, img_shape=size, scale_factor=(1.0, 1.0))
        sample = DetDataSample(metainfo=dict(img_id=index, img_path='', **shapes))
        sample.gt_instances, sample.ignored_instances = (
            make_objects(count, *size, num_classes, torch.device('cpu'))
            for count in (objects[index % len(objects)], 0)
        )
        data['data_samples'].append(sample)
    return data


@functools.cache
def _anchor_generator():
    return TASK_UTILS.build(paper_model().bbox_head.anchor_generator)


def _level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Return (height, width) of P3 to P7; 800x1344 has 201,600 anchors on them."""
    strides = _anchor_generator().strides
    return [(-(-height // y), -(-width // x)) for x, y in strides]
