"""Detection in a large image: tile by tile, each object once.

Tiles are views of the image. One batch of them after the other goes through the
config's own test pipeline and the model; then their detections are merged.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.structures import InstanceData

from focal_retinanet.models.nms import batch_nms
from focal_retinanet.ops.tiles import find_pieces, tile_boxes

#: Smallest side of a tile in pixels.
SMALLEST_TILE = 32

#: Function that detects objects in images (H, W, 3) of equal size.
Predict = Callable[[list[np.ndarray]], Sequence[DetDataSample]]
#: Function that gets the number of tiles that are done, and of all tiles.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Tiling:
    """How images are cut.

    Args:
        tile: Side of a tile in pixels of the image. Larger images are cut.
        overlap: Share of a side that neighbouring tiles have in common at least.
            Objects up to this size lie in one tile completely.
        full_image: Whether the image as a whole goes through the model too, for
            objects that are larger than the overlap.

    Raises:
        ValueError: A tile is too small, or the overlap is not in [0, 1).
    """

    tile: int = 640
    overlap: float = 0.2
    full_image: bool = False

    def __post_init__(self) -> None:
        if self.tile < SMALLEST_TILE:
            raise ValueError(
                f'a tile must have at least {SMALLEST_TILE} pixels, not {self.tile}'
            )
        if not 0 <= self.overlap < 1:
            raise ValueError(
                'the overlap is a share of the tile from 0 to below 1, not '
                f'{self.overlap}'
            )

    def cuts(self, image: np.ndarray) -> bool:
        """Return whether an image (H, W, 3) is larger than a tile."""
        return max(image.shape[:2]) > self.tile


def predict_tiles(
    predict: Predict,
    image: np.ndarray,
    tiling: Tiling,
    batch_size: int = 1,
    progress: Progress | None = None,
) -> list[DetDataSample]:
    """Detect objects in the tiles of an image.

    Args:
        predict: Function that detects objects in images of equal size.
        image: Image (H, W, 3), which is read tile by tile.
        tiling: How the image is cut.
        batch_size: Number of tiles that are detected at a time.
        progress: Function that gets the numbers of tiles that are done, and of all.

    Returns:
        Detections of each tile on the CPU: ``bboxes``, xyxy in pixels of the image,
        ``scores`` and ``labels``, and the metainfo ``tile``, xyxy.
    """
    height, width = image.shape[:2]
    tiles = tile_boxes(height, width, tiling.tile, tiling.overlap).tolist()
    batches = [tiles[i : i + batch_size] for i in range(0, len(tiles), batch_size)]
    whole = [0, 0, width, height]
    if tiling.full_image:
        batches.append([whole])
    done, total = 0, sum(map(len, batches))
    samples = []
    for batch in batches:
        views = [image[y1:y2, x1:x2] for x1, y1, x2, y2 in batch]
        for tile, found in zip(batch, predict(views), strict=True):
            found = found.pred_instances.cpu()
            bboxes = get_box_tensor(found.bboxes)
            if tile == whole:
                # The tiles show objects up to this size completely, and larger.
                sides = (bboxes[:, 2:] - bboxes[:, :2]).amax(1)
                kept = sides > tiling.tile * tiling.overlap
                found, bboxes = found[kept], bboxes[kept]
            samples.append(
                DetDataSample(
                    metainfo=dict(tile=tuple(tile)),
                    pred_instances=InstanceData(
                        bboxes=bboxes + bboxes.new_tensor(tile[:2] * 2),
                        scores=found.scores,
                        labels=found.labels,
                    ),
                )
            )
        done += len(batch)
        if progress is not None:
            progress(done, total)
    return samples


def merge_tiles(
    samples: Sequence[DetDataSample], nms: Mapping[str, Any]
) -> InstanceData:
    """Merge the detections of the tiles of an image, each object once.

    Pieces of objects go first, see :func:`focal_retinanet.ops.tiles.find_pieces`, then
    non-maximum suppression takes the rest of all tiles.

    Args:
        samples: Detections of :func:`predict_tiles`.
        nms: Suppression, as ``test_cfg.nms`` of a model.

    Returns:
        ``bboxes``, ``scores`` and ``labels`` on the CPU, best score first.
    """
    found = InstanceData.cat([sample.pred_instances for sample in samples])
    owners = torch.arange(len(samples)).repeat_interleave(
        torch.tensor([len(sample.pred_instances) for sample in samples])
    )
    tiles = torch.tensor([sample.tile for sample in samples])
    is_agnostic = nms.get('class_agnostic', False)
    labels = torch.zeros_like(found.labels) if is_agnostic else found.labels
    found = found[~find_pieces(found.bboxes, labels, owners, tiles)]
    num_classes = int(found.labels.max()) + 1 if len(found) else 1
    [merged] = batch_nms([found], dict(nms), max_per_img=-1, num_classes=num_classes)
    return merged


def nms_of(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the suppression of a model's config, or that at an IoU of 0.5."""
    return dict(last_test_cfg(model).get('nms') or dict(type='nms', iou_threshold=0.5))


def last_test_cfg(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the ``test_cfg`` of a model's config, of two stages that of the last."""
    model = model.get('detector') or model  # of an exported file
    test_cfg = model.get('test_cfg') or {}
    return test_cfg.get('rcnn') or test_cfg


def array_pipeline(cfg: Config) -> list[dict]:
    """Return the transforms of a config's test that take ``img``, an array, first."""
    steps = deepcopy(list(get_test_pipeline_cfg(cfg)))
    steps[0]['type'] = 'mmdet.LoadImageFromNDArray'
    return steps
