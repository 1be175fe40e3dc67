"""Labels of boxes lie within the image without overlaps; the best is always there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from focal_retinanet.visualization.boxes import best_last
from focal_retinanet.visualization.labels.drawing import (
    draw_labels,
    label_text,
    letter_sizes,
)
from focal_retinanet.visualization.labels.placement import place_labels

WIDTH, HEIGHT = 200, 100
numbers = st.floats(-30, 230)


@st.composite
def boxes(draw):
    """Boxes at any place, also across the border, outside, and without an area."""
    corners = draw(st.lists(st.tuples(*[numbers] * 4), max_size=25))
    x = np.sort(np.array(corners).reshape(-1, 2, 2), axis=1)
    return x.reshape(-1, 4)


def overlap(a, b):
    """Whether two rectangles share an area."""
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


@given(boxes=boxes(), sizes=st.lists(st.tuples(*[st.floats(1, 250)] * 2), min_size=25))
def test_properties(boxes, sizes):
    sizes = np.array(sizes[: len(boxes)]).reshape(-1, 2)
    placed = place_labels(boxes, sizes, (WIDTH, HEIGHT))
    there = placed[~np.isnan(placed).any(1)]
    assert placed.shape == (len(boxes), 4)
    assert len(boxes) == 0 or not np.isnan(placed[0]).any()
    assert (there >= 0).all() and (there <= [WIDTH, HEIGHT] * 2).all()
    for index, one in enumerate(there):
        assert not any(overlap(one, other) for other in there[:index])
    expected = np.minimum(sizes, [WIDTH, HEIGHT])
    for place, size in zip(placed, expected, strict=True):
        if not np.isnan(place).any():
            np.testing.assert_allclose(place[2:] - place[:2], size)


@pytest.mark.parametrize(
    'box, expected',
    [
        ([50, 40, 90, 80], [50, 30, 80, 40]),  # above
        ([50, 5, 90, 60], [50, 60, 80, 70]),  # no room above: below
        ([50, 5, 90, 95], [50, 5, 80, 15]),  # no room below: inside
        ([180, 40, 199, 80], [170, 30, 200, 40]),  # moved to the left
        ([50, -9, 90, 109], [50, 0, 80, 10]),  # outside at both ends: moved down
        ([300, 300, 310, 310], [170, 90, 200, 100]),
    ],
)
def test_where_a_label_alone_is(box, expected):
    (place,) = place_labels([box], [[30, 10]], (WIDTH, HEIGHT))
    assert place.tolist() == expected


def test_the_next_one_takes_the_next_place():
    same = [[50, 40, 90, 80]] * 3
    places = place_labels(same, [[30, 10]] * 3, (WIDTH, HEIGHT))
    assert places.tolist() == [[50, 30, 80, 40], [50, 80, 80, 90], [50, 40, 80, 50]]


def test_without_room_the_best_are_there():
    everywhere = [[0, 0, WIDTH, HEIGHT]] * 3
    places = place_labels(everywhere, [[150, 60]] * 3, (WIDTH, HEIGHT))
    assert places[0].tolist() == [0, 0, 150, 60] and np.isnan(places[1:]).all()


def test_the_best_is_drawn_last():
    assert best_last([0.5, 0.9, 0.1, 0.9]).tolist() == [2, 0, 3, 1]
    assert best_last([]).tolist() == []


@pytest.mark.parametrize(
    'score, text',
    [(None, 'cat'), (0.9, 'cat 0.90'), (0.874, 'cat 0.87'), (1, 'cat 1.00')],
)
def test_scores_have_two_decimals(score, text):
    assert label_text('cat', score) == text


def test_pixels_of_labels_are_where_they_are_said_to_be():
    image = np.zeros((100, 200, 3), np.uint8)
    colours = [(255, 0, 0), (0, 0, 255)]
    places = draw_labels(
        image, [[50.4, 40.6, 90, 80]] * 2, ['cat 0.90', 'a\nb'], colours, [12, 12]
    )
    for place, colour in zip(places.astype(int), colours, strict=True):
        x1, y1, x2, y2 = place
        assert (image[y1:y2, x1:x2] == colour).all(-1).mean() > 0.5
        image[y1:y2, x1:x2] = 0
    assert not image.any()
    heights = places[:, 3] - places[:, 1]
    assert heights[1] > 1.7 * heights[0]  # two lines


def test_a_label_larger_than_the_image_is_cut():
    image = np.zeros((9, 15, 3), np.uint8)
    places = draw_labels(image, [[2, 2, 9, 9]], ['cat 0.90'], [(255, 255, 255)], [12])
    assert places.tolist() == [[0, 0, 15, 9]]
    assert image.mean() > 100


def test_letters_suit_the_image():
    large = letter_sizes([[0, 0, 400, 400], [0, 0, 10, 10]], (1280, 960))
    small = letter_sizes([[0, 0, 90, 90]], (100, 100))
    assert large[0] == 22 and large[1] == 17 and small == [10]
