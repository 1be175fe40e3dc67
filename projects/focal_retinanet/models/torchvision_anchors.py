"""Anchors of torchvision's RetinaNet, which its weights were trained with."""

import copy

import torch
from mmdet.structures.bbox import HorizontalBoxes
from torch import Tensor

from focal_retinanet.models.anchor_generator import AnchorGenerator
from focal_retinanet.registry import TASK_UTILS


@TASK_UTILS.register_module()
class TorchvisionAnchorGenerator(AnchorGenerator):
    """torchvision's anchors: whole pixels, and strides that depend on the input.

    Three things differ from the paper's anchors. Sides are cut to whole pixels, so P3
    has 32, 40 and 50 instead of 32, 40.3 and 50.8. Corners are rounded. The stride of a
    level is the size of the input divided by the level's, rounded down: P7 of an input
    of 800 pixels has 7 rows, 114 pixels apart instead of 128.

    The input's size is taken as that of the first level times its stride, which holds
    if ``pad_size_divisor`` is a multiple of that stride.

    Args:
        sizes: Sides in pixels of the square anchors of each level.
        ratios: Height / width of the anchors.
        strides: Strides of the levels in pixels.
        use_box_type: Whether anchors are ``HorizontalBoxes``.
    """

    def __init__(
        self,
        sizes: tuple[tuple[float, ...], ...] = (
            (32, 40, 50),
            (64, 80, 101),
            (128, 161, 203),
            (256, 322, 406),
            (512, 645, 812),
        ),
        ratios: tuple[float, ...] = (0.5, 1.0, 2.0),
        strides: tuple[int, ...] = (8, 16, 32, 64, 128),
        use_box_type: bool = False,
    ) -> None:
        self.sizes = sizes
        super().__init__(
            strides=list(strides),
            ratios=list(ratios),
            scales=[1.0],
            use_box_type=use_box_type,
        )

    def gen_base_anchors(self) -> list[Tensor]:
        """Return the anchors (A, 4) of a cell of each level, xyxy around 0."""
        return [
            self.gen_single_level_base_anchors(
                1, torch.tensor(sizes, dtype=torch.float32), self.ratios
            ).round()
            for sizes in self.sizes
        ]

    def grid_priors(
        self,
        featmap_sizes: list[tuple[int, int]],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = 'cuda',
    ) -> list[Tensor] | list[HorizontalBoxes]:
        """Return the anchors (H_l * W_l * A, 4) of each level, xyxy, absolute pixels.

        Args:
            featmap_sizes: (height, width) of each level's feature map.
            dtype: Type of the anchors.
            device: Device of the anchors.
        """
        rows, columns = featmap_sizes[0]
        stride_x, stride_y = self.strides[0]
        of_input = copy.copy(self)
        of_input.strides = [
            (columns * stride_x // width, rows * stride_y // height)
            for height, width in featmap_sizes
        ]
        return super(TorchvisionAnchorGenerator, of_input).grid_priors(
            featmap_sizes, dtype, device
        )
