"""Pictures and detections of files are written, and nothing of the user's is lost."""

import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from PIL import Image

from focal_retinanet.cli.errors import UserError
from focal_retinanet.engine.detect_files import detect_files


def test_an_input_is_not_overwritten_by_its_picture(detector, images, tmp_path):
    photo = tmp_path / 'vis' / 'a.jpg'
    photo.parent.mkdir()
    cv2.imwrite(str(photo), images[0])
    before = photo.read_bytes()
    with pytest.raises(UserError, match=r'vis/a\.jpg is an input, and would be overw'):
        detect_files(detector, [photo], tmp_path, 0.3)
    assert photo.read_bytes() == before
    detect_files(detector, [photo], tmp_path / 'vis', 0.3)
    assert photo.read_bytes() == before and (tmp_path / 'vis/vis/a.jpg').exists()


def test_what_was_found_is_kept_whatever_ends_the_work(tiny_config, save, tmp_path):
    """An unexpected error stops the work between two images."""
    config = tmp_path / 'tiny.py'
    tiny_config.dump(config)
    for name in ('a', 'b'):
        Image.new('RGB', (64, 64)).save(tmp_path / f'{name}.png')
    root = Path(__file__).parents[2]
    code = (
        'import sys, runpy\n'
        'import focal_retinanet.engine.inference as inference\n'
        'predict = inference.Detector._predict\n'
        'def fail_later(self, batch):\n'
        '    inference.Detector._predict = lambda *a: 1 / 0\n'
        '    return predict(self, batch)\n'
        'inference.Detector._predict = fail_later\n'
        f'sys.argv = ["infer.py", {str(config)!r}, {save()!r}, {str(tmp_path)!r},'
        f' "--device", "cpu", "--out-dir", {str(tmp_path / "found")!r}]\n'
        f'runpy.run_path({str(root / "tools" / "infer.py")!r}, run_name="__main__")\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=root, capture_output=True, text=True
    )
    assert 'ZeroDivisionError' in done.stderr
    assert 'detections in 1 images' in done.stdout
    assert (tmp_path / 'found' / 'detections.json').exists()
