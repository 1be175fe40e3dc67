"""A sample of the training data tells whether the anchors reach the objects."""

import random

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.registry import init_default_scope

from focal_retinanet.anchors.sample import Reach, measure_reach

LARGE = 'model.bbox_head.anchor_generator.octave_base_scale'


@pytest.fixture
def built(tiny_config):
    """Builds the model and the training data of the tiny config, with changes."""
    init_default_scope('mmdet')

    def build(**changes):
        tiny_config.merge_from_dict(changes)
        dataset = DATASETS.build(tiny_config.train_dataloader.dataset)
        return MODELS.build(tiny_config.model), dataset

    return build


def test_objects_in_reach_and_out_of_it(built):
    reach = measure_reach(*built())
    assert reach.images == 16 and reach.objects > 16
    far = measure_reach(*built(**{LARGE: 40}))
    assert far.objects == reach.objects
    assert far.missed == far.objects
    assert far.describe('mine.py') == (
        '100 % of the objects in a sample of 16 training images get no anchor of IoU '
        '>= 0.5: python tools/browse_dataset.py mine.py says what would cover them'
    )


def test_some_miss_is_no_problem():
    assert Reach(64, 100, 2, 0.5).describe('a.py') is None
    assert Reach(64, 100, 3, 0.5).describe('a.py').startswith('3 % of the objects')
    assert Reach(64, 0, 0, 0.5).describe('a.py') is None


def test_time_ends_the_sample(built):
    assert measure_reach(*built(), seconds=0).images == 1


def test_what_has_no_anchors_or_no_boxes(built, tiny_config):
    model, dataset = built()
    assert measure_reach(torch.nn.Linear(1, 1), dataset) is None
    dataset.pipeline.transforms.pop(1)  # LoadAnnotations
    assert measure_reach(model, dataset) is None


class Counting:
    """A transform with a state of its own."""

    calls = 0

    def __call__(self, results):
        self.calls += 1
        return results


def test_nothing_changes(built):
    model, dataset = built()
    counting = Counting()
    dataset.pipeline.transforms.append(counting)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert measure_reach(model, dataset).images == 16
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected
    assert counting.calls == 0


def test_a_training_warns_once_and_is_the_same(runs, tiny_config, tmp_path):
    tiny_config.val_cfg = tiny_config.val_dataloader = tiny_config.val_evaluator = None
    tiny_config.train_cfg.max_epochs = 1
    tiny_config.merge_from_dict({LARGE: 40})
    runner = runs.train(tiny_config, tmp_path / 'warned')
    log = runs.log_of(runner)
    line = '100 % of the objects in a sample of 16 training images get no anchor'
    assert log.count(line) == 1
    assert f'browse_dataset.py {tmp_path}/warned/retinanet_r18-slim_fpn_8e' in log
    tiny_config.train_cfg.max_epochs = 2
    assert line not in runs.log_of(
        runs.train(tiny_config, tmp_path / 'warned', resume=True)
    )
