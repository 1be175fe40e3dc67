"""Inputs drawn at random: objects, anchors, level maps, images."""

from collections.abc import Sequence

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from focal_retinanet.models import AnchorGenerator

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
MEMORY_FORMATS = {
    'contiguous': torch.contiguous_format,
    'channels_last': torch.channels_last,
}
STRIDES = (8, 16, 32, 64, 128)
ANCHORS_PER_CELL = 9
#: The paper's anchors, for a config.
ANCHOR_GENERATOR = dict(
    octave_base_scale=4,
    scales_per_octave=3,
    ratios=[0.5, 1.0, 2.0],
    strides=list(STRIDES),
)


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """(height, width) of P3 to P7; 800x1344 has 201,600 anchors on them."""
    return [(-(-height // stride), -(-width // stride)) for stride in STRIDES]


def make_anchors(height: int, width: int, device: torch.device) -> Tensor:
    """(N, 4) xyxy, the paper's anchors of an image."""
    grids = AnchorGenerator(**ANCHOR_GENERATOR).grid_priors(
        level_sizes(height, width), device=device
    )
    return torch.cat(grids)


def make_objects(
    count: int, height: int, width: int, num_classes: int, device: torch.device
) -> InstanceData:
    """Objects inside an image, from 16 pixels to half of its shorter side."""
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
    batch: int,
    channels: int,
    height: int,
    width: int,
    mean: float,
    std: float,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
    device: torch.device | str = 'cpu',
) -> list[Tensor]:
    """A (batch, 9 * channels, H, W) map of normal numbers for each level."""
    return [
        torch.randn(batch, ANCHORS_PER_CELL * channels, *size)
        .mul_(std)
        .add_(mean)
        .to(device, dtype, memory_format=memory_format)
        for size in level_sizes(height, width)
    ]


def make_images(
    batch: int, height: int, width: int, objects: Sequence[int], num_classes: int
) -> dict:
    """A batch of noise as a data loader gives it, on the CPU.

    Args:
        batch: number of images.
        height, width: of each, pixels.
        objects: in the images, in turn.
        num_classes: of the objects.
    """
    inputs, samples = [], []
    for index in range(batch):
        inputs.append(torch.randint(256, (3, height, width), dtype=torch.uint8))
        count = objects[index % len(objects)]
        sample = DetDataSample(
            metainfo=dict(
                img_id=index,
                img_path='',
                ori_shape=(height, width),
                img_shape=(height, width),
                scale_factor=(1.0, 1.0),
            )
        )
        sample.gt_instances = make_objects(
            count, height, width, num_classes, torch.device('cpu')
        )
        sample.ignored_instances = make_objects(
            0, height, width, num_classes, torch.device('cpu')
        )
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)
