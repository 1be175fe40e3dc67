"""Images and videos are read as they should be, or named."""

import os
from unittest import mock

import cv2
import numpy as np
import pytest
from PIL import Image

from focal_retinanet.cli.errors import UserError
from focal_retinanet.data import image_files
from focal_retinanet.data.image_files import (
    CutOffVideoError,
    find_inputs,
    read_annotated_image,
    read_frames,
    read_small_image,
)


def test_a_tool_does_not_take_its_own_pictures_for_inputs(tmp_path):
    own = tmp_path / 'found' / 'vis' / 'a.jpg'
    own.parent.mkdir(parents=True)
    for file in (own, tmp_path / 'a.jpg'):
        file.touch()
    out_dir = tmp_path / 'found'
    for given in (str(tmp_path), f'{tmp_path}/**/*.jpg'):
        assert find_inputs([given], out_dir) == [tmp_path / 'a.jpg']
        assert find_inputs([given]) == [tmp_path / 'a.jpg', own]
    assert find_inputs([str(own)], out_dir) == [own]  # asked for by name
    with pytest.raises(UserError, match='holds no image or video'):
        find_inputs([str(out_dir)], out_dir)


def test_a_folder_with_the_name_of_an_image_is_no_image(tmp_path):
    file = tmp_path / 'tiles.tif' / 'a.png'
    file.parent.mkdir()
    file.touch()
    for given in (str(tmp_path), f'{tmp_path}/**'):
        assert find_inputs([given]) == [file]
    with pytest.raises(UserError, match='holds no image or video'):
        find_inputs([f'{tmp_path}/*.tif'])


def test_linked_folders_are_searched_once(tmp_path):
    store, folder = tmp_path / 'store', tmp_path / 'images'
    for place in (store, folder):
        place.mkdir()
        (place / 'a.png').touch()
    (folder / 'linked').symlink_to(store)
    (folder / 'again').symlink_to(store)
    (folder / 'around').symlink_to(folder)
    assert find_inputs([str(folder)]) == [folder / 'a.png', folder / 'again' / 'a.png']


def test_a_name_that_is_not_utf_8(tmp_path):
    """It comes from an old archive; Python has surrogates for its bytes."""
    image = np.full((4, 6, 3), 7, np.uint8)
    file = tmp_path / os.fsdecode(b'caf\xe9.png')
    try:
        file.write_bytes(cv2.imencode('.png', image)[1].tobytes())
    except OSError:
        pytest.skip('this disk has UTF-8 names only')
    assert find_inputs([str(tmp_path)]) == [file]
    (frame,) = read_frames(file)
    assert np.array_equal(frame, image)
    with pytest.raises(UserError, match='name is not UTF-8: rename it'):
        next(read_frames(file.with_suffix('.mp4')))


@pytest.mark.parametrize('content', [b'', b'no image', None])
def test_no_file_ends_in_opencvs_words(tmp_path, content):
    file = tmp_path / 'a.jpg'
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r'a\.jpg'):
        list(read_frames(file))


@pytest.mark.parametrize(('suffix', 'codec'), [('avi', 'MJPG'), ('mkv', 'MJPG')])
def test_a_video_that_ends_before_its_time_is_named(suffix, codec, tmp_path):
    whole, cut = tmp_path / f'whole.{suffix}', tmp_path / f'cut.{suffix}'
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter_fourcc(*codec), 10, (64, 64))
    noise = np.random.default_rng(0)
    for _ in range(40):
        writer.write(noise.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    writer.release()
    assert len(list(read_frames(whole))) == 40
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    frames = []
    with pytest.raises(CutOffVideoError, match=r'the rest of .*cut.*of 4\.0 seconds'):
        frames.extend(read_frames(cut))
    # What could be read has been given out.
    assert 15 < sum(1 for _ in _until_error(read_frames(cut))) < 25


def _until_error(frames):
    try:
        yield from frames
    except CutOffVideoError:
        return


def test_an_annotated_image_is_read_as_its_boxes_are(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.arange(20 * 40 * 3, dtype=np.uint8).reshape(20, 40, 3)
    file = tmp_path / 'a.jpg'
    Image.fromarray(pixels).save(file, exif=exif)
    assert read_annotated_image(file, (20, 40)).shape == (40, 20, 3)
    assert read_annotated_image(file, (40, 20)).shape == (20, 40, 3)
    with pytest.raises(UserError, match=r'a\.jpg is 20x40 where .* says 30x30'):
        read_annotated_image(file, (30, 30))


@pytest.mark.parametrize('kind', ['bmp', 'jpeg', 'png', 'tiff', 'webp'])
def test_the_content_of_a_small_image_counts_not_its_name(tmp_path, kind):
    file = tmp_path / 'a.mp4'
    Image.new('RGB', (30, 20), (255, 0, 0)).save(file, kind)
    image = read_small_image(file, max_pixels=600)
    assert image.shape == (20, 30, 3)
    assert abs(image[10, 15].astype(int) - (0, 0, 255)).max() < 5  # BGR
    with pytest.raises(
        UserError, match=r'a\.mp4 has more than 0\.000599 million pixels'
    ):
        read_small_image(file, max_pixels=599)


@pytest.mark.parametrize('side', [10_000, 20_000])  # Pillow warns of one, refuses one
def test_a_bomb_is_not_decoded(tmp_path, side, monkeypatch, recwarn):
    file = tmp_path / 'bomb.png'
    Image.new('1', (side, side)).save(file)
    monkeypatch.setattr('cv2.imdecode', None)
    with pytest.raises(UserError, match=r'bomb\.png has more than 50 million pixels'):
        read_small_image(file, max_pixels=50_000_000)
    assert not recwarn


@pytest.mark.parametrize('content', [b'', b'no image', b'\xff\xd8\xff', b'\x89PNG\r\n'])
def test_a_small_image_that_is_none_is_named(tmp_path, content):
    file = tmp_path / 'a.jpg'
    file.write_bytes(content)
    with pytest.raises(UserError, match=r'a\.jpg is no image that can be read \(BMP'):
        read_small_image(file, max_pixels=600)


@pytest.mark.parametrize('in_place', [False, True])
def test_an_image_too_large_for_opencv_is_named_with_the_cure(tmp_path, in_place):
    file = tmp_path / 'a.png'
    Image.new('RGB', (4, 4)).save(file)
    refusal = cv2.error('(-215:Assertion failed) pixels <= CV_IO_MAX_IMAGE_PIXELS in f')
    reader = 'imread' if in_place else 'imdecode'
    with (
        mock.patch.object(image_files, '_DECODES_IN_PLACE', in_place),
        mock.patch.object(cv2, reader, side_effect=refusal),
        pytest.raises(UserError, match='set the environment variable OPENCV_IO_MAX_'),
    ):
        list(read_frames(file))
    with mock.patch.object(image_files, '_DECODES_IN_PLACE', in_place):
        [image] = read_frames(file)
    assert image.shape == (4, 4, 3)
