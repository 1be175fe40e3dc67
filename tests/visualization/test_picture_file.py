"""Images and videos can be read, or an error says why not."""

import cv2
import numpy as np
import pytest

from focal_retinanet.visualization.picture_file import PictureFile, frames_per_second

FRAMES = [np.full((48, 64, 3), value, np.uint8) for value in (20, 120, 220)]


def write(path, frames=FRAMES, fps=5):
    file = PictureFile(path, fps)
    for frame in frames:
        file.add(frame[..., ::-1])  # not contiguous, as a picture from RGB
    file.close()
    return file


def test_a_video_is_whole(tmp_path):
    path = tmp_path / 'clip.mp4'
    assert write(path).error is None
    assert frames_per_second(path) == 5
    video = cv2.VideoCapture(str(path))
    for frame in FRAMES:
        ok, read = video.read()
        assert ok
        assert abs(read.astype(int) - frame).max() < 10
    assert not video.read()[0]


def test_an_image_is_written(tmp_path):
    path = tmp_path / 'ä.jpg'
    assert write(path, FRAMES[:1], fps=None).error is None
    read = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    assert abs(read.astype(int) - FRAMES[0]).max() < 5


@pytest.mark.parametrize(('name', 'fps'), [('clip.mp4', 5), ('a.jpg', None)])
def test_a_folder_that_is_not_there_is_named(tmp_path, name, fps):
    path = tmp_path / 'gone' / name
    assert f'{path} cannot be written' in write(path, fps=fps).error


def test_a_codec_that_is_missing_is_an_error(tmp_path, monkeypatch):
    unknown = cv2.VideoWriter_fourcc(*'ZZZZ')
    monkeypatch.setattr(cv2, 'VideoWriter_fourcc', lambda *letters: unknown)
    path = tmp_path / 'clip.mp4'
    file = write(path)
    assert f'{path} cannot be written as a video' in file.error
    assert 'MPEG-4' in file.error


def test_frames_that_are_lost_are_counted(tmp_path):
    path = tmp_path / 'clip.mp4'
    other_size = np.zeros((32, 32, 3), np.uint8)  # OpenCV drops such frames
    file = write(path, [*FRAMES, other_size, other_size])
    assert f'{path} has 3 of 5 frames' in file.error


def test_a_video_that_vanished_is_an_error(tmp_path):
    path = tmp_path / 'clip.mp4'
    file = PictureFile(path, 5)
    file.add(FRAMES[0])
    path.unlink()
    file.close()
    assert f'{path} has 0 of 1 frames' in file.error


def test_a_video_without_frames_is_no_error(tmp_path):
    assert write(tmp_path / 'clip.mp4', []).error is None
    assert not (tmp_path / 'clip.mp4').exists()


def test_an_image_too_long_for_a_jpeg_is_named(tmp_path):
    file = write(tmp_path / 'a.jpg', [np.zeros((1, 65501, 3), np.uint8)], fps=None)
    assert 'a JPEG image has at most 65500 pixels a side' in file.error
    assert not (tmp_path / 'a.jpg').exists()
