"""tools/browse_dataset.py as a user runs it."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from focal_retinanet.data.training_images import annotated_dataset

ROOT = Path(__file__).parents[2]


def browse(*arguments, fails=False):
    """Run the tool without a display and return its output, both streams."""
    words = [sys.executable, 'tools/browse_dataset.py', *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if 'DISPLAY' not in k}
    done = subprocess.run(
        words,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


@pytest.fixture
def config(tiny_config, tmp_path):
    """The tiny config as a file, with its data set repeated."""
    dataset = tiny_config.train_dataloader.dataset
    tiny_config.train_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=dataset
    )
    tiny_config.pop('work_dir')
    file = tmp_path / 'tiny.py'
    tiny_config.dump(file)
    return file


def test_train_split(config, tmp_path, shapes_root):
    out = tmp_path / 'out'
    command = (config, '--out-dir', out, '--num', 3)
    output = browse(*command)
    assert 'Warning' not in output and 'loading annotations' not in output
    assert output.splitlines()[-1].startswith(('Advice: ', 'images'))
    assert len(list((out / 'images').glob('*.png'))) == 3
    assert (out / 'coverage.png').exists()

    annotations = json.loads((shapes_root / 'annotations' / 'train.json').read_text())
    count = 2 * len(annotations['annotations'])
    numbers = json.loads((out / 'summary.json').read_text())
    assert numbers['num_images'] == 32 and numbers['num_objects'] == count
    assert sum(numbers['objects'].values()) == count
    assert 0 < numbers['objects']['covered'] <= count
    with (out / 'not_covered.csv').open() as file:
        assert len(list(csv.DictReader(file))) == count - numbers['objects']['covered']

    assert 'has files already' in browse(*command, fails=True)
    for own in (out / 'notes.txt', out / 'images' / 'mine.png'):
        own.write_text('')
    again = browse(*command, '--num', 1, '--overwrite', '--not-show')
    assert again.splitlines()[-1] == output.splitlines()[-1]  # the same seed
    names = 'coverage.png, images, not_covered.csv, summary.json'
    assert f'Written to {out}: {names}\n' in again
    # The earlier pictures are gone, and nothing else.
    first, mine = sorted(file.name for file in (out / 'images').iterdir())
    assert first.startswith('000') and mine == 'mine.png'
    assert (out / 'notes.txt').exists()


def test_anchors_that_are_too_large(config, tmp_path):
    """Without low-quality matches, objects without an anchor are named."""
    out = tmp_path / 'out'
    output = browse(
        *(config, '--output-dir', out, '--num', 2, '--split', 'val', '--cfg-options'),
        'model.bbox_head.anchor_generator.octave_base_scale=8',
        'model.train_cfg.assigner.match_low_quality=False',
    )
    numbers = json.loads((out / 'summary.json').read_text())
    assert numbers['objects']['no_anchor'] > 0
    assert f'Objects that get no anchor: {numbers["objects"]["no_anchor"]}.' in output
    assert 'val/000000.png: ' in output or 'val/000001.png: ' in output
    assert 'smaller than the smallest anchor (64 pixels)' in output
    assert 'octave_base_scale=' in output.splitlines()[-1]


def test_boxes_of_val_are_in_pixels_of_the_input(tiny_config, shapes_root):
    """The test pipeline loads boxes after resizing, in pixels of the original image."""
    dataloader = tiny_config.val_dataloader
    for step in dataloader.dataset.pipeline:
        if step.type == 'Resize':
            step.scale = (128, 128)  # images have 64 x 64 pixels
    dataset = annotated_dataset(tiny_config, 'val', nn.Module())
    item = dataset[0]
    annotations = json.loads((shapes_root / 'annotations' / 'val.json').read_text())
    image_id = item['data_samples'].img_id
    x, y, w, h = next(
        a['bbox'] for a in annotations['annotations'] if a['image_id'] == image_id
    )
    got = item['data_samples'].gt_instances.bboxes[0]
    got = getattr(got, 'tensor', got).flatten().tolist()
    assert got == pytest.approx([2 * x, 2 * y, 2 * (x + w), 2 * (y + h)], abs=1e-3)


def test_head_without_anchors(config, tmp_path):
    out = tmp_path / 'out'
    output = browse(
        *('configs/baselines/fcos_r50_fpn.py', '--out-dir', out, '--num', 1),
        *('--cfg-options', f'data_from={config}', 'train_dataloader.num_workers=0'),
        'model.backbone.init_cfg=None',
    )
    assert 'no anchors to compare with the objects: FCOSHead has no anchors' in output
    assert len(list((out / 'images').iterdir())) == 1
    assert not (out / 'not_covered.csv').exists()


def test_mistakes_are_one_clear_line(config, tmp_path, fail):
    output = browse('nowhere.py', fails=True)
    assert 'nowhere.py' in output and 'Traceback' not in output
    tool = 'tools/browse_dataset.py'
    data_only = str(ROOT / 'configs/_base_/datasets/shapes_detection.py')
    assert f'{data_only} has no model' in fail(tool, data_only)
    out = tmp_path / 'out'
    output = fail(
        *(tool, config, '--out-dir', out, '--cfg-options'),
        'train_dataloader.dataset.dataset.ann_file=gone.json',
    )
    assert 'gone.json: no such annotation file' in output
    assert not out.exists()
    output = fail(tool, config, '--num', -1)
    assert '--num: must be a whole number of at least 0' in output


def test_parts_that_differ_in_their_colours(tiny_config, tmp_path, in_colours):
    part = tiny_config.train_dataloader.dataset
    tiny_config.train_dataloader.dataset = in_colours(part)
    tiny_config.pop('work_dir')
    tiny_config.dump(tmp_path / 'parts.py')
    browse(tmp_path / 'parts.py', '--out-dir', tmp_path / 'out', '--num', 2)
    assert len(list((tmp_path / 'out' / 'images').glob('*.png'))) == 2
    numbers = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    assert numbers['num_images'] == 2 * 16
