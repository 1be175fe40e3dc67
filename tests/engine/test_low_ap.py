"""Causes of an AP near 0, each where there is a sign of it and nowhere else."""

import pytest
import torch
from mmengine.config import Config

from focal_retinanet.engine import low_ap
from focal_retinanet.engine.low_ap import Found

PAPER = dict(
    auto_scale_lr=dict(enable=False, base_batch_size=16),
    optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
    train_dataloader=dict(batch_size=2),
    param_scheduler=[dict(type='LinearLR', by_epoch=False, begin=0, end=500)],
)


def config(**changes):
    return Config({**PAPER, **changes})


def test_broken_weights():
    model = torch.nn.Linear(2, 2)
    assert low_ap.weights_cause(model, config()) is None
    model.bias.data[0] = float('nan')
    says = low_ap.weights_cause(model, config())
    assert says.startswith('1 of 2 weights are NaN or infinite, such as bias')
    assert 'optimizer.lr (now 0.01)' in says


@pytest.mark.parametrize(
    ('changes', 'world_size', 'says'),
    [
        ({}, 1, 'is for 16 images an iteration, and this run has 2: .* it 0.00125'),
        ({}, 8, None),
        (dict(auto_scale_lr=dict(enable=True, base_batch_size=16)), 1, None),
        (dict(auto_scale_lr=None), 1, None),
        (dict(train_dataloader=dict(batch_size=12)), 1, None),
        (dict(train_dataloader=dict(batch_size=64)), 1, 'this run has 64'),
        (
            dict(optim_wrapper=dict(optimizer=dict(lr=0.01), accumulative_counts=8)),
            1,
            None,
        ),
        (dict(optim_wrapper=None), 1, None),
    ],
)
def test_a_learning_rate_for_other_batches(changes, world_size, says):
    cause = low_ap.learning_rate_cause(config(**changes), world_size)
    assert (cause is None) == (says is None)
    if says:
        assert all(part in cause for part in says.split('.* '))


def test_a_training_that_has_only_begun():
    assert 'lasts 500 iterations, and 40 are' in low_ap.iterations_cause(config(), 40)
    assert low_ap.iterations_cause(config(), 500) is None
    few = low_ap.iterations_cause(config(param_scheduler=None), 40)
    assert few.startswith('40 iterations are few')


def test_other_classes():
    assert low_ap.classes_cause(('a', 'b'), ['a', 'b']) is None
    assert low_ap.classes_cause((), ('a',)) is None
    assert 'in another order' in low_ap.classes_cause(('a', 'b'), ('b', 'a'))
    assert 'are others' in low_ap.classes_cause(('a', 'b'), ('a', 'c'))


def test_scores_and_labels():
    found = Found(8, 0.02, 0.05, objects=20, overlapped=10, of_its_class=1)
    assert low_ap.scores_cause(found) == (
        'the highest score in 8 images is 0.02, and model.test_cfg.score_thr is 0.05'
    )
    assert 'boxes fit 10 of 20 objects, and only 1' in low_ap.labels_cause(found)
    found = Found(8, 0.2, 0.05, objects=20, overlapped=10, of_its_class=9)
    assert low_ap.scores_cause(found) is low_ap.labels_cause(found) is None
    nothing = Found(8, None, 0.05, objects=20, overlapped=0, of_its_class=0)
    assert low_ap.scores_cause(nothing) == 'there is no box at any score in 8 images'
    assert low_ap.labels_cause(nothing) is None
