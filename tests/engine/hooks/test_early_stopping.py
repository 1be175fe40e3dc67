"""A run with early stopping and EMA that is resumed is the run that never stopped."""

import copy
import shutil
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import EMAHook

from focal_retinanet.engine.hooks import EarlyStoppingHook
from focal_retinanet.engine.runner import Runner
from focal_retinanet.engine.training_flags import average_weights, stop_early

#: AP of each validation; two come after the best one without a better AP.
SCORES = [0.1, 0.3, 0.3, 0.2, 0.9]


class ScoredRunner(Runner):
    """Validations have the AP of SCORES, one after each two iterations."""

    def build_val_loop(self, loop):
        loop = super().build_val_loop(loop)
        loop.evaluator.evaluate = lambda size: {
            'coco/bbox_mAP': SCORES[self.iter // 2 - 1]
        }
        return loop


@pytest.fixture
def config(tiny_config):
    tiny_config.train_cfg.update(max_epochs=5, val_interval=1)
    tiny_config.train_dataloader.batch_size = 8
    tiny_config.fold_batch_norm = tiny_config.winograd = False
    return tiny_config


def with_flags(cfg):
    stop_early(cfg, 2)
    average_weights(cfg)
    # So that the average is not what it averages.
    cfg.custom_hooks[-1].update(momentum=0.1, gamma=1)
    return cfg


def hook_of(runner, kind):
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, kind)]
    return hook


def assert_same_end(runs, one, other):
    assert (one.epoch, one.iter) == (other.epoch, other.iter)
    runs.assert_same_weights(one, other)
    averages = [hook_of(r, EMAHook).ema_model.state_dict() for r in (one, other)]
    assert averages[0].keys() == averages[1].keys()
    for name, average in averages[0].items():
        assert torch.equal(average, averages[1][name]), name
    states = [
        (hook.best_score, hook.wait_count)
        for hook in (hook_of(r, EarlyStoppingHook) for r in (one, other))
    ]
    assert states[0] == states[1] == (0.3, 2)
    noted = [dict(r.message_hub.runtime_info) for r in (one, other)]
    assert noted[0]['best_score'] == noted[1]['best_score'] == 0.3


def test_early_stopping_and_the_average_resume_exactly(runs, config, tmp_path):
    cfg = with_flags(config)
    own = dict(runner_type=ScoredRunner)
    whole = runs.train(cfg, tmp_path / 'whole', **own)
    assert whole.epoch == 4
    says = 'Training stops early: no better coco/bbox_mAP than 0.300 in 2 validations'
    assert runs.log_of(whole).count(says) == 1
    (best,) = (tmp_path / 'whole').glob('best_*')
    assert best.name == 'best_coco_bbox_mAP_epoch_2.pth'
    average = hook_of(whole, EMAHook).ema_model.module.state_dict()
    key = 'bbox_head.retina_cls.weight'
    assert not torch.equal(average[key], whole.model.state_dict()[key])
    saved = torch.load(tmp_path / 'whole' / 'epoch_4.pth', weights_only=True)
    assert torch.equal(saved['state_dict'][key], average[key])

    # After a validation that is not better, which no checkpoint has in it.
    folder = tmp_path / 'stopped'
    runs.stop_after(cfg, 7, folder, **own)
    resumed = runs.train(cfg, folder, resume=True, **own)
    assert_same_end(runs, whole, resumed)
    assert [file.name for file in folder.glob('best_*')] == [best.name]
    # The training is over, and does not go on.
    again = runs.train(cfg, folder, resume=True, **own)
    assert_same_end(runs, whole, again)

    # A larger patience lets it go on, from a copy.
    shutil.copytree(folder, tmp_path / 'patient')
    patient = copy.deepcopy(cfg)
    (own_hook,) = (h for h in patient.custom_hooks if 'patience' in h)
    own_hook.patience = 3
    further = runs.train(patient, tmp_path / 'patient', resume=True, **own)
    assert further.epoch == 5

    # Interrupted within a validation.
    runs.stop_in_validation(cfg, 4, tmp_path / 'validating', **own)
    resumed = runs.train(cfg, tmp_path / 'validating', resume=True, **own)
    assert 'it is validated now' in runs.log_of(resumed)
    assert_same_end(runs, whole, resumed)


@pytest.mark.parametrize(
    ('noted', 'patience', 'stops'),
    [(3, 3, True), (3, 10, False), (5, 10, True), (None, 10, True)],
)
def test_a_run_that_has_stopped_goes_on_if_its_patience_allows(noted, patience, stops):
    """A checkpoint that was saved after the run had waited for 3 validations."""
    state = dict(best_score=0.3, wait_count=3, stops=True, patience=noted)
    if noted is None:
        del state['patience']
    said = []
    runner = SimpleNamespace(
        message_hub=SimpleNamespace(runtime_info={'early_stopping': state}),
        train_loop=SimpleNamespace(stop_training=False),
        logger=SimpleNamespace(info=said.append),
    )
    hook = EarlyStoppingHook(monitor='coco/bbox_mAP', patience=patience)
    hook.before_train(runner)
    assert runner.train_loop.stop_training == stops
    assert ('had stopped early, after 3 validations' in ''.join(said)) == stops


def test_validation_alone_stops_nothing(runs, config, tmp_path):
    cfg = with_flags(config)
    runner = runs.build(cfg, tmp_path / 'val')
    assert runner.val()['coco/bbox_mAP'] < 0.1
    assert isinstance(runner._train_loop, dict)  # not built
