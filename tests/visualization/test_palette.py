"""Any number of classes has colours, with any palette."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from focal_retinanet.cli.errors import UserError
from focal_retinanet.visualization.palette import (
    class_colours,
    readable_on,
    with_class_colours,
)

RED, BLUE = (220, 20, 60), (0, 114, 178)
colours = st.tuples(*[st.integers(0, 255)] * 3)


def test_what_was_given_stays_and_the_rest_is_okabe_itos():
    assert class_colours(2, [RED, BLUE]) == [RED, BLUE]
    # The given blue is in Okabe and Ito's palette, and the red is like its vermilion.
    assert class_colours(4, [RED, BLUE]) == [RED, BLUE, (230, 159, 0), (0, 158, 115)]
    assert class_colours(1, [RED, BLUE]) == [RED]
    assert class_colours(0, [RED]) == []


@given(given_ones=st.lists(colours, max_size=6), count=st.integers(0, 60))
def test_each_class_has_a_colour_unlike_the_others(given_ones, count):
    result = class_colours(count, given_ones)
    assert len(result) == count and result[: len(given_ones)] == given_ones[:count]
    added = result[len(given_ones) :]
    assert len(set(added)) == len(added) and not set(added) & set(given_ones)
    assert all(isinstance(part, int) and 0 <= part <= 255 for c in added for part in c)
    assert result == class_colours(count, given_ones)


@pytest.mark.parametrize('count', [80, 365, 1000])
def test_many_classes(count):
    assert len(set(class_colours(count))) == count


@pytest.mark.parametrize(
    'palette, expected',
    [
        (None, [BLUE, (230, 159, 0)]),
        ('random', [BLUE, (230, 159, 0)]),
        ('coco', [(220, 20, 60), (119, 11, 32)]),
        ('voc', [(106, 0, 228), (119, 11, 32)]),
        ('red', [(255, 0, 0)] * 2),
        ('green', [(0, 255, 0)] * 2),  # mmcv's
        ('#0072B2', [BLUE] * 2),
        (RED, [RED] * 2),
        ([*RED], [RED] * 2),
        ((RED, BLUE), [RED, BLUE]),
        (np.array([RED, BLUE]), [RED, BLUE]),
        (['#0072B2'], [BLUE, (230, 159, 0)]),
    ],
)
def test_forms_of_palettes(palette, expected):
    assert class_colours(2, palette) == expected


def test_a_named_palette_that_is_too_short_goes_on():
    result = class_colours(30, 'voc')
    assert result[:20] == class_colours(20, 'voc') and len(set(result[19:])) == 11


@pytest.mark.parametrize('palette', ['no colour', 7, [(1, 2)], [(0, 0, 256)], [None]])
def test_what_is_no_palette_is_said(palette):
    with pytest.raises(UserError, match=r'palette=.* is no palette'):
        class_colours(2, palette)


def test_metainfo_is_copied():
    meta = dict(classes=('a', 'b'), palette=[RED], other=1)
    result = with_class_colours(meta)
    assert result == dict(classes=('a', 'b'), palette=[RED, BLUE], other=1)
    assert meta['palette'] == [RED]
    assert with_class_colours(dict(classes='cat', palette=None))['palette'] == [BLUE]
    assert with_class_colours(None) == {}
    # mmdet's data sets of parts that differ have a list.
    assert with_class_colours([meta, dict(classes=('a', 'b'))]) == result


@pytest.mark.parametrize(
    'ground, letters',
    [((255, 255, 0), 0), ((0, 0, 139), 255), ((255, 255, 255), 0), ((0, 0, 0), 255)],
)
def test_letters_are_read_on_their_ground(ground, letters):
    assert readable_on(ground) == (letters,) * 3
