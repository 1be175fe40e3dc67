"""Checkpoints load safely, mmengine's own among them, and nothing else does."""

import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import _load_checkpoint

from focal_retinanet.engine.checkpoint import (
    UnsafeCheckpointError,
    enforce_safe_loading,
)


class Evil:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (self.trace, 'w'))


def test_what_mmengine_saves_loads(tmp_path):
    buffer = HistoryBuffer([0.5, 0.25], [1, 1])
    saved = dict(
        meta=dict(
            epoch=3, seed=0, dataset_meta=dict(classes=('a',), palette=[(1, 2, 3)])
        ),
        state_dict=dict(weight=torch.ones(2)),
        message_hub=dict(
            log_scalars={'train/loss': buffer},
            runtime_info={'lr': np.float64(0.1), 'iter': np.int64(3)},
            resumed_keys={},
        ),
    )
    torch.save(saved, tmp_path / 'epoch_3.pth')
    loaded = _load_checkpoint(str(tmp_path / 'epoch_3.pth'), map_location='cpu')
    assert loaded['message_hub']['log_scalars']['train/loss'].mean() == 0.375
    assert loaded['meta'] == saved['meta']


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path):
    trace, file = tmp_path / 'trace', tmp_path / 'evil.pth'
    torch.save(dict(state_dict={}, extra=Evil(str(trace))), file)
    with pytest.raises(UnsafeCheckpointError) as refusal:
        load_checkpoint(torch.nn.Linear(1, 1), str(file))
    assert str(file) in str(refusal.value)
    assert 'open' in str(refusal.value)
    assert '--unsafe-checkpoint' in str(refusal.value)
    assert not trace.exists()


def test_getattr_leads_nowhere_but_to_the_history_buffer(tmp_path):
    class Lookup:
        def __reduce__(self):
            return (getattr, (torch.nn.Linear, '__init__'))

    torch.save(dict(state_dict={}, extra=Lookup()), tmp_path / 'evil.pth')
    with pytest.raises(UnsafeCheckpointError):
        _load_checkpoint(str(tmp_path / 'evil.pth'), map_location='cpu')


def test_unsafe_only_when_asked_for(tmp_path):
    trace, file = tmp_path / 'trace', tmp_path / 'trusted.pth'
    torch.save(dict(state_dict={}, extra=Evil(str(trace))), file)
    enforce_safe_loading(allow_unsafe=True)
    _load_checkpoint(str(file), map_location='cpu')
    assert trace.exists()


def test_no_caller_can_switch_it_off(tmp_path):
    file = tmp_path / 'evil.pth'
    torch.save(Evil(str(tmp_path / 'trace')), file)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=False)
    assert not (tmp_path / 'trace').exists()


@pytest.mark.parametrize('content', [b'', b'hello, world', b'PK\x03\x04 cut off'])
def test_what_is_no_checkpoint_is_named(tmp_path, content):
    file = tmp_path / 'notes.pth'
    file.write_bytes(content)
    with pytest.raises(UnsafeCheckpointError, match=r'notes\.pth'):
        _load_checkpoint(str(file), map_location='cpu')


def test_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r'gone\.pth not found'):
        _load_checkpoint('gone.pth', map_location='cpu')
