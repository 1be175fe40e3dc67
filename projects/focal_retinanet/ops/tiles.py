"""Tiles of a large image: where they lie, and which boxes are pieces of objects.

An object at the border of a tile is found twice: as a piece there, and completely in
the next tile, if it is no larger than the overlap. The IoU of a piece and the whole is
too small for non-maximum suppression, so :func:`find_pieces` finds pieces by another
rule.
"""

import math

import torch
from torch import Tensor

#: Share of a cut box that another box has to cover, so that the cut one is a piece.
COVERED = 0.5
# Distance from an inner border within which a box counts as cut: pixels, and shares of
# the box's side. A detector places the cut side only about there.
_NEAR = 2.0
_NEAR_SHARE = 0.1


def tile_boxes(height: int, width: int, tile: int, overlap: float) -> Tensor:
    """Return the tiles that cover an image, as few and as evenly spaced as possible.

    Args:
        height, width: Size of the image in pixels.
        tile: Side of the tiles in pixels; a shorter image has shorter tiles.
        overlap: Lowest share of a side that neighbours have in common, in [0, 1).

    Returns:
        Tiles (T, 4), int64, xyxy in pixels of the image, row by row.
    """
    rows, columns = (_starts(length, tile, overlap) for length in (height, width))
    y, x = (part.flatten() for part in torch.meshgrid(rows, columns, indexing='ij'))
    right, bottom = (x + tile).clamp(max=width), (y + tile).clamp(max=height)
    return torch.stack([x, y, right, bottom], dim=1)


def _starts(length: int, tile: int, overlap: float) -> Tensor:
    """Return the first pixel of each tile along one side of an image."""
    room = max(length - tile, 0)
    stride = max(tile - math.ceil(tile * overlap), 1)
    count = 1 + math.ceil(room / stride)
    # Integers, because fp32 is not exact for all of them.
    return torch.arange(count) * room // max(count - 1, 1)


def find_pieces(
    bboxes: Tensor, labels: Tensor, owners: Tensor, tiles: Tensor
) -> Tensor:
    """Find the boxes that are pieces of objects that another tile shows better.

    A box is cut if it ends at a border of its tile that is not a border of the image.
    A cut box is a piece if a box of its class, from another tile, covers at least
    half of it and is not cut or is larger. Scores do not matter, as a piece can have
    a better score than the whole.

    Args:
        bboxes: Boxes (N, 4), xyxy in pixels of the image.
        labels: Classes (N,).
        owners: Index (N,) of the tile in which each box was found.
        tiles: Tiles (T, 4), xyxy in pixels; together they cover the image.

    Returns:
        Pieces (N,), bool.
    """
    tiles = tiles.to(bboxes)
    cut = _cut(bboxes, tiles[owners], tiles)
    areas = _areas(bboxes)
    pieces = torch.zeros_like(cut)
    counts = owners.bincount(minlength=len(tiles)).tolist()
    of_tile = owners.argsort(stable=True).split(counts)
    # Tile by tile, as all pairs of boxes of a large image would not fit into memory.
    for tile in owners[cut].unique().tolist():
        mine = of_tile[tile][cut[of_tile[tile]]]
        neighbours = _intersection(tiles[tile, None], tiles)[0].nonzero()[:, 0].tolist()
        others = [of_tile[other] for other in neighbours if other != tile]
        if not others:
            continue
        others = torch.cat(others)
        area, other_area = areas[mine, None], areas[others]
        covered = _intersection(bboxes[mine], bboxes[others]) / area >= COVERED
        # Of two equal pieces the first one stays.
        is_first = (other_area == area) & (owners[others] < tile)
        better = ~cut[others] | (other_area > area) | is_first
        same_class = labels[others] == labels[mine, None]
        pieces[mine] = (covered & better & same_class).any(1)
    return pieces


def _cut(bboxes: Tensor, own: Tensor, tiles: Tensor) -> Tensor:
    """Return whether each box ends at an inner border of its own tile, (N,) bool."""
    sides = bboxes[:, 2:] - bboxes[:, :2]
    near = (_NEAR + _NEAR_SHARE * sides).repeat(1, 2)  # (N, 4)
    image = torch.cat([tiles[:, :2].amin(0), tiles[:, 2:].amax(0)])
    return (((bboxes - own).abs() <= near) & (own != image)).any(1)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6).prod(1)


def _intersection(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Return the areas (M, N) that boxes (M, 4) and boxes (N, 4) have in common."""
    upper_left = torch.max(boxes1[:, None, :2], boxes2[:, :2])
    lower_right = torch.min(boxes1[:, None, 2:], boxes2[:, 2:])
    return (lower_right - upper_left).clamp(min=0).prod(2)
