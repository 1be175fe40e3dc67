"""Anchors of the feature pyramid (section 4), made once per feature size."""

from collections import OrderedDict

import torch
from mmdet.models.task_modules import AnchorGenerator as MMDetAnchorGenerator
from torch import Tensor

from focal_retinanet.registry import TASK_UTILS

# Multi-scale training meets a few dozen feature sizes; more than that would
# only fill memory (3 MB for the anchors of an 800x1344 image).
_CACHE_SIZE = 64


@TASK_UTILS.register_module()
class AnchorGenerator(MMDetAnchorGenerator):
    """mmdet's ``AnchorGenerator``, which remembers the grids it has made.

    The paper's anchors: ``octave_base_scale=4, scales_per_octave=3,
    ratios=[0.5, 1.0, 2.0], strides=[8, 16, 32, 64, 128]``, which is 9 a cell,
    with sides of sqrt(area) from 32 pixels on P3 to 813 on P7.

    The tensors returned are shared between calls: do not write into them.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._grids: OrderedDict[tuple, Tensor] = OrderedDict()

    def single_level_grid_priors(
        self,
        featmap_size: tuple[int, int],
        level_idx: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = 'cuda',
    ) -> Tensor:
        """Anchors of one level.

        Args:
            featmap_size: (height, width) of the level's feature map.
            level_idx: index of the level, 0 for P3.
            dtype: of the result.
            device: of the result.

        Returns:
            (height * width * A, 4) xyxy in pixels of the input image, rows
            first, the A anchors of a cell side by side.
        """
        key = (
            int(featmap_size[0]),
            int(featmap_size[1]),
            level_idx,
            dtype,
            str(device),
        )
        if key not in self._grids:
            while len(self._grids) >= _CACHE_SIZE:
                self._grids.popitem(last=False)
            self._grids[key] = super().single_level_grid_priors(
                featmap_size, level_idx, dtype=dtype, device=device
            )
        self._grids.move_to_end(key)
        return self._grids[key]
