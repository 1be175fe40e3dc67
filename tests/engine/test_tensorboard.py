"""The TensorBoard option, used in both ways that its docstring describes."""

import copy
import json
import textwrap
from pathlib import Path

import pytest
from mmengine.config import Config

from focal_retinanet.engine.runner import Runner

ROOT = Path(__file__).parents[2]
DEMO = ROOT / 'configs/demo/retinanet_r18-slim_fpn_8e_shapes.py'
OPTION = ROOT / 'configs/_base_/tensorboard.py'


@pytest.fixture
def in_place_of_default_runtime(tmp_path):
    """Return the demo's config with the option in its list of bases."""
    text = DEMO.read_text()
    assert text.count('default_runtime.py') == 1
    text = text.replace('default_runtime.py', OPTION.name)
    file = tmp_path / 'replaced.py'
    file.write_text(text.replace("'../_base_", f"'{OPTION.parent.as_posix()}"))
    return Config.fromfile(file)


@pytest.fixture
def child(tmp_path):
    """Return the child of the demo's config that the docstring shows."""
    text = OPTION.read_text()
    begin, end = text.index("    _base_ = '../demo"), text.index('Then `tensorboard')
    text = textwrap.dedent(text[begin:end])
    file = tmp_path / 'child.py'
    file.write_text(text.replace('../demo', DEMO.parent.as_posix()))
    return Config.fromfile(file)


@pytest.mark.parametrize('way', ['in_place_of_default_runtime', 'child'])
def test_only_the_backends_differ(way, request):
    cfg = request.getfixturevalue(way).to_dict()
    plain = Config.fromfile(DEMO).to_dict()
    types = [backend['type'] for backend in cfg['visualizer']['vis_backends']]
    assert types == ['LocalVisBackend', 'TensorboardVisBackend']
    for either in (cfg, plain):
        either['visualizer'].pop('vis_backends')
        either.pop('vis_backends')
    assert cfg == plain


def test_the_events_are_what_mmengine_logged(tiny_config, in_place_of_default_runtime):
    pytest.importorskip('tensorboard', reason='tensorboard is not installed')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    cfg = copy.deepcopy(tiny_config)
    cfg.visualizer = in_place_of_default_runtime.visualizer
    cfg.experiment_name = 'tensorboard'
    Runner.from_cfg(cfg).train()

    (folder,) = Path(cfg.work_dir).glob('*/vis_data')
    logged = [json.loads(line) for line in (folder / 'scalars.json').open()]
    events = EventAccumulator(str(folder))
    events.Reload()
    keys = {key for line in logged for key in line} - {'step'}
    assert {'lr', 'loss', 'loss_cls', 'loss_bbox', 'coco/bbox_mAP'} <= keys
    assert set(events.Tags()['scalars']) == keys
    for key in keys:
        found = events.Scalars(key)
        lines = [line for line in logged if key in line]
        assert [event.step for event in found] == [line['step'] for line in lines], key
        values = [line[key] for line in lines]
        # float32; NaN for a class without objects.
        expected = pytest.approx(values, rel=1e-6, nan_ok=True)
        assert [event.value for event in found] == expected, key
