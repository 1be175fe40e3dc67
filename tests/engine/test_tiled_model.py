"""A test on tiles finds what the detector finds on tiles."""

import copy
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.registry import DefaultScope

from focal_retinanet import Detector
from focal_retinanet.engine.tiled_model import use_tiles
from focal_retinanet.engine.tiles import Tiling

ROOT = Path(__file__).parents[2]


@pytest.fixture
def test_on(tiny_config, runs, tmp_path):
    """Return a function that tests one model with some tiling."""
    checkpoint = tmp_path / 'model.pth'

    def test(tiling=None, **changes):
        cfg = copy.deepcopy(tiny_config)
        cfg.load_from = str(checkpoint) if checkpoint.exists() else None
        cfg.merge_from_dict(changes)
        if tiling is not None:
            use_tiles(cfg, tiling)
        runner = runs.build(cfg)
        if not checkpoint.exists():
            torch.save(dict(state_dict=runner.model.state_dict()), checkpoint)
        step, found = runner.model.test_step, []

        def test_step(data):
            found.extend(samples := step(data))
            return samples

        runner.model.test_step = test_step
        metrics = runner.test()
        # A hook looks at some images again, as nearly nothing is found.
        return found[:4], metrics

    test.checkpoint = str(checkpoint)
    return test


def assert_same(one, other, atol=0.0):
    one, other = one.pred_instances.cpu(), other.pred_instances.cpu()
    if torch.cuda.is_available():  # another batch size may be another algorithm
        atol = 1e-3
    for key in ('bboxes', 'scores', 'labels'):
        np.testing.assert_allclose(one[key], other[key], atol=atol)


def test_images_no_larger_than_a_tile_are_tested_as_ever(test_on):
    changes = {'test_dataloader.batch_size': 3}
    expected, metrics = test_on(**changes)
    found, same = test_on(Tiling(tile=64, full_image=True), **changes)
    assert len(found) == len(expected) == 4
    assert same == pytest.approx(metrics, nan_ok=True)
    for one, other in zip(found, expected, strict=True):
        assert len(one.pred_instances) > 0
        assert_same(one, other)
        assert one.img_id == other.img_id and one.img_path == other.img_path
        assert torch.equal(*(x.gt_instances.bboxes.cpu() for x in (one, other)))


def test_tiles_are_those_of_the_detector(test_on, tiny_config):
    test_on()
    found, _ = test_on(Tiling(32, 0.5, full_image=True))
    DefaultScope._instance_dict.clear()
    detector = Detector(
        *(tiny_config, test_on.checkpoint),
        tile=32,
        overlap=0.5,
        full_image=True,
    )
    files = [sample.img_path for sample in found]
    for sample, one in zip(found, detector(files), strict=True):
        assert len(one) > 100  # the limit of one tile
        assert_same(sample, one.sample, atol=1e-3)


def test_the_preprocessor_beside_the_model_is_that_of_the_detector(tiny_config, runs):
    given = tiny_config.model.pop('data_preprocessor')
    tiny_config.data_preprocessor = copy.deepcopy(given)
    use_tiles(tiny_config, Tiling(32))
    model = runs.build(tiny_config).model
    mean = model.module.data_preprocessor.mean.flatten().tolist()
    assert mean == pytest.approx(given.mean)


@pytest.mark.parametrize('views', [['--tile', '32'], ['--tta']])
def test_the_work_directory_keeps_the_config_of_the_model(
    tiny_config, tmp_path, monkeypatch, views
):
    config, checkpoint = tmp_path / 'tiny.py', tmp_path / 'model.pth'
    tiny_config.dump(config)
    register_all_modules(init_default_scope=True)
    model = MODELS.build(tiny_config.model)
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    words = [config, checkpoint, '--work-dir', tmp_path / 'work', *views]
    words += ['--show-dir', 'pictures']
    monkeypatch.setattr(sys, 'argv', ['test.py', *map(str, words)])
    runpy.run_path(str(ROOT / 'tools' / 'test.py'), run_name='__main__')
    assert len(list((tmp_path / 'work').glob('*/pictures/*.png'))) == 4
    given, kept = Config.fromfile(config), Config.fromfile(tmp_path / 'work/tiny.py')
    assert kept.model == given.model
    assert kept.test_dataloader == given.test_dataloader


@pytest.mark.parametrize(
    ('words', 'says'),
    [
        ('--tile 31', 'must be a whole number of at least 32, got 31'),
        ('--tile 64 --overlap 1', 'must be a number from 0 to below 1, got 1'),
        ('--tile 64 --overlap x', 'must be a number from 0 to below 1, got x'),
        ('--full-image', 'add --tile PIXELS'),
        ('--tile 64 --tta', 'do not work together'),
    ],
)
def test_impossible_arguments_are_refused(monkeypatch, capsys, words, says):
    monkeypatch.setattr(sys, 'argv', ['test.py', 'a.py', 'a.pth', *words.split()])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / 'tools' / 'test.py'), run_name='__main__')
    assert says in capsys.readouterr().err
