"""Checkpoints load with torch alone, and resume a run exactly."""

import copy
import math
import subprocess
import sys
from collections import Counter, OrderedDict, namedtuple

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner as MMEngineRunner

from focal_retinanet.engine.hooks.plain_checkpoint import (
    HISTORY,
    REPLACED,
    PlainCheckpointHook,
)
from focal_retinanet.engine.runner import Runner

# Runs in a process without this package and its list of allowed types.
LOAD = """
import sys, torch
for path in sys.argv[1:]:
    held = torch.load(path, map_location='cpu', weights_only=True)
    print(*sorted(held))
assert not sys.modules.keys() & {'mmengine', 'mmdet', 'focal_retinanet'}
"""


def load_by_torch_alone(*files):
    done = subprocess.run(
        [sys.executable, '-c', LOAD, *map(str, files)],
        env=dict(PATH=''),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


@pytest.fixture
def full_config(tiny_config):
    """Return a config with everything that adds data to checkpoints."""
    tiny_config.custom_hooks = [
        *tiny_config.custom_hooks,
        dict(type='EMAHook', ema_type='ExpMomentumEMA'),
    ]
    tiny_config.param_scheduler = [
        dict(type='LinearLR', by_epoch=False, end=4, start_factor=0.1),
        dict(type='MultiStepLR', milestones=[1, 1], gamma=0.5),
        dict(type='MultiStepMomentum', milestones=[1], gamma=0.5),
    ]
    tiny_config.default_hooks.checkpoint.save_best = 'coco/bbox_mAP'
    tiny_config.train_cfg.val_interval = 1
    return tiny_config


def test_torch_alone_loads_a_checkpoint_of_mixed_precision(runs, full_config, tmp_path):
    full_config.optim_wrapper.type = 'focal_retinanet.AmpOptimWrapper'
    full_config.train_cfg.max_epochs = 1
    runs.train(full_config)
    file = tmp_path / 'work' / 'epoch_1.pth'
    (held,) = load_by_torch_alone(file)
    assert 'optimizer' in held
    assert 'loss_scaler' in torch.load(file)['optimizer']


def test_torch_alone_loads_every_checkpoint(runs, full_config, tmp_path):
    runs.train(full_config)
    work = tmp_path / 'work'
    (best,) = work.glob('best_*.pth')
    last, of_the_best = load_by_torch_alone(work / 'epoch_2.pth', best)
    assert {'meta', 'state_dict', 'message_hub', 'optimizer'} < set(last)
    assert {'ema_state_dict', 'param_schedulers', HISTORY, REPLACED} < set(last)
    assert {'meta', 'state_dict', 'message_hub', HISTORY} < set(of_the_best)


def test_a_resumed_run_logs_what_an_uninterrupted_one_does(runs, full_config, tmp_path):
    # Losses are means over iterations from before the checkpoint, too.
    full_config.log_processor.window_size = 50
    full_config.train_cfg.max_epochs = 3
    whole = runs.train(full_config, tmp_path / 'whole')
    runs.stop_after(full_config, 6, tmp_path / 'stopped')
    load_by_torch_alone(tmp_path / 'stopped' / 'epoch_1.pth')
    resumed = runs.train(full_config, tmp_path / 'stopped', resume=True)
    runs.assert_same_weights(whole, resumed)
    lines = runs.scalars_of(resumed)
    assert len(lines) > 8
    assert lines == runs.scalars_of(whole)[-len(lines) :]
    # Stateful parts are unchanged by saving.
    for ours, theirs in zip(
        resumed.param_schedulers, whole.param_schedulers, strict=True
    ):
        assert ours.state_dict() == theirs.state_dict()
        assert type(ours.state_dict().get('milestones')) in (type(None), Counter)


def test_checkpoints_of_before_are_resumed(runs, full_config, tmp_path, monkeypatch):
    whole = runs.train(full_config, tmp_path / 'whole')
    with monkeypatch.context() as patch:
        patch.setattr(
            PlainCheckpointHook, 'before_save_checkpoint', lambda *args, **kwargs: None
        )
        runs.stop_after(full_config, 5, tmp_path / 'stopped')
    held = torch.load(tmp_path / 'stopped' / 'epoch_1.pth')
    assert HISTORY not in held
    assert isinstance(held['message_hub']['log_scalars']['train/loss'], HistoryBuffer)
    resumed = runs.train(full_config, tmp_path / 'stopped', resume=True)
    runs.assert_same_weights(whole, resumed)


def test_a_stock_mmengine_resumes_and_tests_ours(
    runs, full_config, tmp_path, shapes_root
):
    # mmengine's runner does not give evaluators the data set's file.
    ann_file = f'{shapes_root}/annotations/val.json'
    full_config.val_evaluator.ann_file = ann_file
    full_config.test_evaluator.ann_file = ann_file
    full_config.custom_hooks = full_config.custom_hooks[2:]  # the EMA
    whole = runs.train(full_config, tmp_path / 'whole')
    runs.stop_after(full_config, 5, tmp_path / 'stopped')
    stock = dict(runner_type=MMEngineRunner)
    resumed = runs.train(full_config, tmp_path / 'stopped', resume=True, **stock)
    assert resumed.epoch == 2
    assert resumed.model.state_dict().keys() == whole.model.state_dict().keys()
    assert 'resumed key' not in runs.log_of(resumed)
    cfg = copy.deepcopy(full_config)
    cfg.load_from = str(tmp_path / 'whole' / 'epoch_2.pth')
    tester = MMEngineRunner.from_cfg(cfg)
    assert tester.test().keys() >= {'coco/bbox_mAP'}


def test_mmdets_inferencer_reads_it(runs, tiny_config, tmp_path, shapes_root):
    runs.train(tiny_config)
    tiny_config.dump(tmp_path / 'tiny.py')
    inferencer = DetInferencer(
        model=str(tmp_path / 'tiny.py'),
        weights=str(tmp_path / 'work' / 'epoch_2.pth'),
        device='cpu',
        show_progress=False,
    )
    image = next((shapes_root / 'images' / 'val').iterdir())
    (found,) = inferencer(str(image), no_save_vis=True)['predictions']
    assert len(found['scores']) == len(found['bboxes']) > 0
    assert inferencer.model.dataset_meta['classes'][0] == 'circle'


Point = namedtuple('Point', 'x y')


class Opaque:
    pass


def test_what_hooks_note_is_kept_as_far_as_it_is_plain(runs, tiny_config, tmp_path):
    noted = dict(
        best=np.float64(0.5),
        long=np.longdouble(0.25),
        count=np.int64(3),
        flag=np.bool_(True),
        array=np.arange(6, dtype=np.float32).reshape(2, 3),
        empty=np.zeros((0, 4)),
        nested=dict(a=[np.float32(1.5), (1, np.zeros(2))], b=Counter('aab')),
        seen={3, 4},
        point=Point(1, 2),
        order=OrderedDict(a=1),
        by_number={np.int64(7): 'seven'},
        nothing=None,
        names=np.array(['a']),
        opaque=[Opaque()],
    )

    class Notes(Hook):
        def before_train(self, runner):
            for key, value in noted.items():
                runner.message_hub.update_info(f'my_{key}', value)

    tiny_config.train_cfg.max_epochs = 1
    runner = Runner.from_cfg(tiny_config)
    runner.register_hook(Notes())
    runner.train()
    file = tmp_path / 'work' / 'epoch_1.pth'
    load_by_torch_alone(file)
    for key in ('my_names, an array', 'my_opaque.0, a Opaque'):
        line = f'message_hub.runtime_info.{key}'
        assert runs.log_of(runner).count(line) == 1

    held = torch.load(file)
    runner.call_hook('after_load_checkpoint', checkpoint=held)
    info = held['message_hub']['runtime_info']
    found = {key[3:]: value for key, value in info.items() if key.startswith('my_')}
    assert found.keys() == noted.keys() - {'names', 'opaque'}
    for key in ('best', 'long', 'count', 'flag', 'seen', 'order', 'nothing'):
        assert found[key] == noted[key], key
    assert type(found['best']) is type(found['long']) is float
    assert type(found['order']) is OrderedDict
    for key in ('array', 'empty'):
        assert found[key].dtype == noted[key].dtype
        assert np.array_equal(found[key], noted[key])
    nested = found['nested']
    assert type(nested['b']) is Counter and nested['b'] == Counter('aab')
    assert nested['a'][0] == 1.5 and type(nested['a'][1]) is tuple
    assert np.array_equal(nested['a'][1][1], np.zeros(2))
    assert found['point'] == (1, 2) and found['by_number'] == {7: 'seven'}


def test_meta_of_arrays_and_the_weights_versions_survive(runs, tiny_config, tmp_path):
    palette = np.array([[1, 2, 3]] * 5)
    runner = runs.train(tiny_config, **{'train_cfg.max_epochs': 1})
    runner.train_dataloader.dataset._metainfo['palette'] = palette
    runner.save_checkpoint(str(tmp_path), 'own.pth')
    load_by_torch_alone(tmp_path / 'own.pth')
    # The data set is unchanged.
    assert runner.train_dataloader.dataset._metainfo['palette'] is palette
    held = torch.load(tmp_path / 'own.pth')
    assert held['state_dict']._metadata == runner.model.state_dict()._metadata
    runner.call_hook('after_load_checkpoint', checkpoint=held)
    assert np.array_equal(held['meta']['dataset_meta']['palette'], palette)


def test_a_checkpoint_of_which_parts_were_taken_out_loads(runs, full_config, tmp_path):
    runs.train(full_config)
    held = torch.load(tmp_path / 'work' / 'epoch_2.pth')
    for key in ('message_hub', 'optimizer', 'param_schedulers'):
        held.pop(key)
    torch.save(held, tmp_path / 'small.pth')
    full_config.load_from = str(tmp_path / 'small.pth')
    assert math.isfinite(Runner.from_cfg(full_config).test()['coco/bbox_mAP'])


def test_every_runner_has_the_hook_once(tiny_config, tmp_path):
    tiny_config.custom_hooks.append(dict(type='focal_retinanet.PlainCheckpointHook'))
    runner = Runner.from_cfg(tiny_config)
    own = [hook for hook in runner.hooks if isinstance(hook, PlainCheckpointHook)]
    assert len(own) == 1 and runner.hooks[-1] is own[0]


def test_runs_by_iterations_are_resumed_exactly(runs, tiny_config, tmp_path):
    cfg = runs.by_iterations(tiny_config)
    whole = runs.train(cfg, tmp_path / 'whole')
    runs.stop_after(cfg, 6, tmp_path / 'stopped')
    load_by_torch_alone(tmp_path / 'stopped' / 'iter_5.pth')
    resumed = runs.train(cfg, tmp_path / 'stopped', resume=True)
    runs.assert_same_weights(whole, resumed)
    lines = runs.scalars_of(resumed)
    assert lines == runs.scalars_of(whole)[-len(lines) :]
