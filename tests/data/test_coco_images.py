"""Messages about images and boxes give a count, an example and a cause."""

import json

import cv2
import mmcv
import numpy as np
import pytest
from PIL import Image

from focal_retinanet.data import coco_images
from focal_retinanet.data.coco_boxes import describe_leaving, describe_left_out
from focal_retinanet.data.coco_check import check_coco
from focal_retinanet.data.coco_images import check_images

ORIENTATION = 0x0112


def save(path, size=(60, 40), orientation=None):
    """Return a photo of (width, height) with an EXIF orientation."""
    exif = Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    Image.new('RGB', size, 'red').save(path, exif=exif)
    return path.name


def test_images_as_the_file_says(tmp_path):
    names = [save(tmp_path / f'{n}.jpg') for n in range(3)]
    names.append(save(tmp_path / 'turned.jpg', orientation=6))  # displayed as 40x60
    sizes = [(60, 40)] * 3 + [(40, 60)]
    assert check_images(tmp_path, names, sizes) == ([], [])
    assert check_images(tmp_path, names, [(60.0, 40.0)] * 3 + [(40, 60)]) == ([], [])


@pytest.mark.parametrize('orientation', [5, 6, 7, 8])
@pytest.mark.parametrize('suffix', ['jpg', 'png', 'webp'])
def test_a_rotation_that_whoever_drew_the_boxes_did_not_see(
    tmp_path, orientation, suffix
):
    name = save(tmp_path / f'a.{suffix}', orientation=orientation)
    path = str(tmp_path / name)
    height, width = mmcv.imread(path).shape[:2]
    errors, _ = check_images(tmp_path, [name], [(60, 40)])
    if (width, height) == (60, 40):  # this OpenCV does not rotate the format
        assert errors == []
    else:
        (error,) = errors
        assert f'{path} is 40x60 where the file says 60x40 (1 of 1)' in error
        assert 'EXIF rotation' in error
        assert 'color_ignore_orientation' in error
    # The advice in the message works.
    assert check_images(tmp_path, [name], [(60, 40)], 'color_ignore_orientation') == (
        [],
        [],
    )
    assert mmcv.imread(path, 'color_ignore_orientation').shape[:2] == (40, 60)


def test_half_a_turn_changes_no_size(tmp_path):
    names = [save(tmp_path / 'a.jpg', orientation=3), save(tmp_path / 'b.jpg')]
    errors, (warning,) = check_images(tmp_path, names, [(60, 40)] * 2)
    assert errors == []
    assert 'a.jpg has an EXIF rotation or mirroring (1 of 2)' in warning


@pytest.mark.parametrize('orientation', [2, 5, 6, 8])
def test_a_rotation_that_no_size_tells(tmp_path, orientation):
    square = save(tmp_path / 'a.jpg', (50, 50), orientation)
    errors, (warning,) = check_images(tmp_path, [square], [(50, 50)])
    assert errors == [] and 'a.jpg has an EXIF rotation or mirroring' in warning
    # mmcv does not apply it then.
    flag = 'color_ignore_orientation'
    assert check_images(tmp_path, [square], [(50, 50)], flag) == ([], [])
    # A size that was read from the image tells nothing about the boxes.
    name = save(tmp_path / 'b.jpg', (60, 40), orientation)
    height, width = mmcv.imread(str(tmp_path / name)).shape[:2]
    _, (warning,) = check_images(
        tmp_path, [name], [(width, height)], is_size_known=False
    )
    assert 'b.jpg has an EXIF rotation' in warning


def test_more_than_8_bits(tmp_path):
    pixels = np.full((40, 60), 200, np.uint16)
    Image.fromarray(pixels).save(tmp_path / 'a.tif')
    save(tmp_path / 'b.jpg')
    sizes = [(60, 40)] * 2
    errors, (warning,) = check_images(tmp_path, ['a.tif', 'b.jpg'], sizes)
    assert errors == []
    assert 'a.tif has more than 8 bits (1 of 2)' in warning
    assert 'convert the images to 8 bits' in warning
    # Pillow reads 8 of 16 bits a colour without a word.
    for name in ('c.png', 'c.tif'):
        cv2.imwrite(str(tmp_path / name), np.full((40, 60, 3), 900, np.uint16))
        _, (warning,) = check_images(tmp_path, [name], sizes[:1])
        assert f'{name} has more than 8 bits' in warning
    assert check_images(tmp_path, ['a.tif'], sizes[:1], 'unchanged') == ([], [])


@pytest.mark.parametrize('dtype', [np.int32, np.float32])
def test_32_bits_are_a_warning_or_an_error(tmp_path, dtype):
    pixels = np.full((40, 60), 200, dtype)
    Image.fromarray(pixels).save(tmp_path / 'a.tif')
    is_read = mmcv.imread(str(tmp_path / 'a.tif')) is not None
    errors, warnings = check_images(tmp_path, ['a.tif'], [(60, 40)])
    assert (len(errors), len(warnings)) == ((0, 1) if is_read else (1, 0))


def test_16_bits_are_nearly_black_in_8(tmp_path):
    """The warning rests on this."""
    pixels = np.full((40, 60), 200, np.uint16)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    assert mmcv.imread(str(tmp_path / 'a.png')).max() == 0


def test_another_size(tmp_path):
    names = [save(tmp_path / f'{n}.jpg') for n in range(4)]
    sizes = [(60, 40), (120, 80), (40, 60), (60, 40)]
    (error,), _ = check_images(tmp_path, names, sizes)
    assert '1.jpg is 60x40 where the file says 120x80' in error
    assert '(2 of 4)' in error
    assert 'at the wrong place' in error


@pytest.mark.parametrize(
    ('content', 'says'), [(b'', 'it is empty'), (b'no image', 'OpenCV')]
)
def test_no_image(tmp_path, content, says):
    (tmp_path / 'a.jpg').write_bytes(content)
    (error,), _ = check_images(tmp_path, ['a.jpg'], [(60, 40)])
    assert 'a.jpg' in error
    assert 'cannot be read (1 of 1)' in error
    assert says in error
    # Without reading of images, there is no error.
    assert check_images(tmp_path, ['a.jpg'], [(60, 40)], None) == ([], [])


def test_formats_that_only_opencv_knows(tmp_path):
    image = np.zeros((40, 60, 3), np.float32)
    (tmp_path / 'a.hdr').write_bytes(cv2.imencode('.hdr', image)[1])
    assert check_images(tmp_path, ['a.hdr'], [(60, 40)]) == ([], [])


def test_names_of_windows(tmp_path):
    (error,), _ = check_images(tmp_path, ['sub\\a.jpg'], [(60, 40)])
    assert 'sub\\a.jpg is missing on disk (1 of 1)' in error
    assert "write '/'" in error


def test_of_many_images_a_sample_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(coco_images, 'SAMPLED', 5)
    names = [save(tmp_path / f'{n}.jpg') for n in range(20)]
    (error,), _ = check_images(tmp_path, names, [(6, 4)] * 20)
    assert '(5 of 5 that were looked at)' in error


SIZES = [(100, 80)] * 4
CORNERS = [[5, 5, 60, 40], [30, 20, 90, 70], [40, 40, 99, 79], [50, 10, 80, 60]]


@pytest.mark.parametrize(
    ('boxes', 'count', 'cause'),
    [
        (CORNERS, 3, 'look like [x1, y1, x2, y2]'),
        (
            [[50, 40, 90, 70], [60, 40, 70, 60], [50, 60, 90, 30], [80, 60, 30, 30]],
            4,
            'look like [center x, center y',
        ),
        (
            [[150, 20, 30, 30], [5, 5, 9, 9], [5, 90, 9, 9], [9, 5, 9, 9]],
            2,
            'width and height',
        ),
    ],
)
def test_boxes_that_leave_their_image(boxes, count, cause):
    text = describe_leaving([7, 8, 9, 10], boxes, SIZES)
    assert f'{count} of 4 boxes leave their image' in text
    assert cause in text
    assert 'in an image of 100x80' in text


def test_boxes_that_do_not():
    boxes = [[0, 0, 100, 80], [-0.5, 5, 20, 20], [80.4, 60.9, 20, 20], [1, 1, 1, 1]]
    assert describe_leaving([1, 2, 3, 4], boxes, SIZES) is None
    assert describe_leaving([], [], []) is None


def test_numbers_relative_to_the_image():
    boxes = [[0.1, 0.1, 0.5, 0.5], [0.2, 0.3, 0.1, 0.1]]
    text = describe_left_out([1, 2], np.zeros(2, bool), boxes, [1, 1])
    assert 'are they relative to the size of the image?' in text
    boxes, usable = [[5, 5, 0, 9], [5] * 4], np.array([False, True])
    text = describe_left_out([1, 2], usable, boxes, [1, 1])
    assert 'relative' not in text
    assert '(1 of 2)' in text


def test_numbers_that_are_none():
    boxes = [[float('nan'), 5, 20, 9], [5, 5, 0, 5], [5] * 4]
    text = describe_left_out([1, 2], np.zeros(2, bool), boxes[:2], [1, 1])
    assert 'narrower' in text and ', or NaN in its box, which is not a number' in text
    text = describe_left_out([1, 2], np.array([False, True]), boxes[::2], [1, 1])
    assert 'annotation 1 has NaN in its box' in text and 'narrower' not in text
    text = describe_left_out([1, 2], np.array([False, True]), boxes[1:], [1, 1])
    assert 'NaN' not in text


def test_an_area_of_0_is_the_exporters():
    boxes, usable = [[5, 5, 20, 9], [5] * 4], np.array([False, True])
    text = describe_left_out([1, 2], usable, boxes, [0, 9])
    assert 'without the key, it is width times height' in text


def test_real_data_are_without_a_fault(shared_data):
    """Checks of real data raise no false alarm."""
    for name in ('bccd', 'cherry', 'pcb'):
        for split in ('train', 'val'):
            file = shared_data / name / 'annotations' / f'{split}.json'
            images = json.loads(file.read_text())['images']
            assert images
            report = check_coco(file, shared_data / name / 'images')
            assert report.errors == []
            assert [w for w in report.warnings if 'is left out' not in w] == []
