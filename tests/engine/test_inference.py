"""Detections on the user's images: the right names, and no broken image stops them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from PIL import Image

from focal_retinanet.cli.errors import UserError
from focal_retinanet.engine.inference import Detector

CLASSES = ('circle', 'square', 'triangle', 'star', 'cross')


@pytest.fixture
def save(tiny_config, tmp_path):
    """Return a function that writes a checkpoint of random weights, with a ``meta``."""
    register_all_modules(init_default_scope=True)
    model = MODELS.build(tiny_config.model)

    def run(meta=None, change=lambda weights: weights):
        checkpoint = dict(state_dict=change(model.state_dict()))
        if meta is not None:
            checkpoint['meta'] = meta
        file = tmp_path / 'model.pth'
        torch.save(checkpoint, file)
        return str(file)

    return run


def trained_on(*classes):
    return dict(dataset_meta=dict(classes=classes))


@pytest.mark.parametrize(
    ('meta', 'says'),
    [
        (None, None),
        ({}, None),
        (trained_on(*CLASSES), None),
        (dict(CLASSES=CLASSES), None),  # mmdet 2.x
        (trained_on(*CLASSES[::-1]), 'the same in another order'),
        (trained_on('a', 'b', 'c', 'd', 'e'), "the classes ('a', 'b', 'c', 'd', 'e')"),
    ],
)
def test_the_classes_are_the_configs(tiny_config, save, meta, says):
    detector = Detector(tiny_config, save(meta), 'cpu')
    assert detector.classes == CLASSES
    found = detector(np.zeros((64, 64, 3), np.uint8))
    assert len(found.pred_instances.bboxes) > 0
    if says is None:
        assert detector.warning is None
    else:
        assert says in detector.warning
        assert 'model.pth' in detector.warning


def test_a_config_without_names_takes_the_checkpoints(tiny_config, save):
    for split in ('train', 'val', 'test'):
        tiny_config.pop(f'{split}_dataloader' if split != 'test' else 'unused', None)
    dataset = tiny_config.test_dataloader.dataset
    dataset.pop('metainfo')
    dataset.type = 'BaseDetDataset'
    detector = Detector(tiny_config, save(trained_on(*'abcde')), 'cpu')
    assert detector.classes == tuple('abcde')


def test_a_checkpoint_of_no_head_is_refused(tiny_config, save):
    def backbone(weights):
        return {k: v for k, v in weights.items() if k.startswith('backbone')}

    with pytest.raises(UserError, match=r'model\.pth has no weights of a head'):
        Detector(tiny_config, save(change=backbone), 'cpu')
    tiny_config.model.bbox_head.num_classes = 3
    with pytest.raises(UserError, match=r'model\.pth is of another model'):
        Detector(tiny_config, save(), 'cpu')


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
        'call = inference.Detector.__call__\n'
        'def fail_later(self, image):\n'
        '    inference.Detector.__call__ = lambda *a: 1 / 0\n'
        '    return call(self, image)\n'
        'inference.Detector.__call__ = fail_later\n'
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
