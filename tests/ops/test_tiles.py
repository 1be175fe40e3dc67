"""Tiles cover the image, and a cut box is a piece only of what covers it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from focal_retinanet.ops.tiles import find_pieces, tile_boxes


def test_tiles_of_an_image_by_hand():
    # 20 % of 100 pixels are 20; 220 pixels are left to cover in steps of 80.
    assert tile_boxes(80, 320, 100, 0.2).tolist() == [
        [0, 0, 100, 80],
        [73, 0, 173, 80],
        [146, 0, 246, 80],
        [220, 0, 320, 80],
    ]
    assert tile_boxes(100, 100, 100, 0.2).tolist() == [[0, 0, 100, 100]]
    # Neighbours differ by one pixel at least, however much they overlap.
    assert len(tile_boxes(32, 34, 32, 0.999)) == 3


@given(
    length=st.integers(1, 50_000),
    tile=st.integers(32, 2000),
    overlap=st.floats(0, 0.9),
)
def test_neighbours_overlap_enough_and_none_is_needless(length, tile, overlap):
    left, _, right, _ = tile_boxes(1, length, tile, overlap).unbind(1)
    assert left[0] == 0 and right[-1] == length
    assert (right - left == min(tile, length)).all()
    common = right[:-1] - left[1:]
    assert (common >= min(tile * overlap, tile - 1)).all()
    assert (left[2:] > left[:-2]).all()
    assert (len(left) > 1) == (length > tile)
    if len(left) > 2:  # one tile less would overlap less
        step = (length - tile) / (len(left) - 2)
        assert tile - step < tile * overlap + 1


# Two tiles of 100 pixels that have 20 in common, in an image of 180 x 100.
TILES = torch.tensor([[0, 0, 100, 100], [80, 0, 180, 100]])
WHOLE = [[85.0, 40, 110, 60], 1]  # complete in the second tile


@pytest.mark.parametrize(
    ('one', 'other', 'is_piece'),
    [
        ([85.0, 40, 100, 60], WHOLE, True),  # its left 15 columns
        ([85.0, 40, 97, 60], WHOLE, True),  # a little short of the border
        ([85.0, 40, 92, 60], WHOLE, False),  # far from it: suppression's business
        ([85.0, 52, 100, 75], WHOLE, False),  # less than half of it is covered
        ([85.0, 80, 100, 100], [[85.0, 80, 110, 100], 1], True),  # in a corner
        ([85.0, 80, 95, 100], [[80.0, 80, 110, 100], 1], False),  # image's border
        ([60.0, 40, 100, 60], [[80.0, 40, 98, 60], 1], False),  # too small a cover
        ([60.0, 40, 100, 60], [[80.0, 40, 150, 60], 1], True),  # the larger piece
        ([60.0, 40, 100, 60], [[80.0, 40, 118, 60], 1], False),  # the smaller piece
        ([85.0, 40, 100, 60], [WHOLE[0], 0], False),  # of the same tile
    ],
)
def test_pieces_by_hand(one, other, is_piece):
    box, owner = other
    bboxes = torch.tensor([one, box])
    owners, labels = torch.tensor([0, owner]), torch.zeros(2, dtype=torch.int64)
    assert find_pieces(bboxes, labels, owners, TILES)[0] == is_piece
    assert not find_pieces(bboxes, torch.arange(2), owners, TILES).any()
    assert not find_pieces(bboxes[:0], labels[:0], owners[:0], TILES).any()


def test_of_two_equal_pieces_one_stays():
    bboxes = torch.tensor([[82.0, 10, 98, 30], [82.0, 10, 98, 30]])
    pieces = find_pieces(bboxes, torch.zeros(2), torch.tensor([0, 1]), TILES)
    assert pieces.tolist() == [False, True]
