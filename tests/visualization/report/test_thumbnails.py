"""The images of a report: small, upright, and as the detector saw them."""

import shutil

import numpy as np
from PIL import Image

from focal_retinanet.visualization.report.thumbnails import Thumbnails


def test_thumbnails_are_small_and_turned_and_written_once(tmp_path):
    wide, turned = tmp_path / 'wide.png', tmp_path / 'turned.jpg'
    Image.new('RGB', (1280, 320)).save(wide)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: by 90 degrees
    Image.new('RGB', (40, 20)).save(turned, exif=exif)
    broken = tmp_path / 'broken.jpg'
    broken.write_text('no image')
    thumbnails = Thumbnails(tmp_path / 'small')
    for _ in range(2):
        assert thumbnails.add(wide, (1280, 320)) == '00000.jpg'
    assert Image.open(tmp_path / 'small' / '00000.jpg').size == (640, 160)
    assert thumbnails.add(turned, (20, 40)) == '00001.jpg'
    assert Image.open(tmp_path / 'small' / '00001.jpg').size == (20, 40)
    # Boxes may belong to the photo as it is stored.
    stored = shutil.copy(turned, tmp_path / 'stored.jpg')
    assert thumbnails.add(stored, (40, 20)) == '00002.jpg'
    assert Image.open(tmp_path / 'small' / '00002.jpg').size == (40, 20)
    absent = tmp_path / 'absent.jpg'
    for file in (broken, absent, absent):
        assert thumbnails.add(file, (20, 40)) is None
    assert thumbnails.missing == [absent]
    assert thumbnails.unfit == [f'{broken} cannot be decoded as an image']
    # The image of another data set, of the same name.
    assert thumbnails.add(shutil.copy(wide, tmp_path / 'c.png'), (40, 20)) is None
    assert (
        'c.png is 1280x320 where the annotation file says 40x20'
        in (thumbnails.unfit[1])
    )


def test_thumbnails_look_as_the_detector_saw_the_images(tmp_path):
    grey = tmp_path / 'grey.png'
    Image.fromarray(np.full((20, 40), 90 * 257, np.uint16)).save(grey)
    large = tmp_path / 'large.png'  # Pillow refuses to read it
    Image.new('1', (14_000, 13_000), 1).save(large)
    # Where a photo is square, its size does not tell how it was read.
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    square = [tmp_path / 'turned.png', tmp_path / 'stored.png']
    for file in square:
        Image.fromarray(pixels).save(file, exif=exif)
    thumbnails = Thumbnails(tmp_path / 'small')
    thumbnails.add(grey, (40, 20))
    thumbnails.add(large, (14_000, 13_000))
    for file, is_stored in zip(square, (False, True), strict=True):
        thumbnails.add(file, (32, 32), is_stored)
    assert not thumbnails.missing and not thumbnails.unfit
    grey, large, turned, stored = (
        np.array(Image.open(file)).astype(int)
        for file in sorted((tmp_path / 'small').iterdir())
    )
    assert abs(grey - 90).max() < 3
    assert large.shape[:2] == (594, 640) and large.min() > 250
    assert turned[:, -4:].min() > 200 and turned[:, :4].max() < 50
    assert stored[:4].min() > 200 and stored[-4:].max() < 50
