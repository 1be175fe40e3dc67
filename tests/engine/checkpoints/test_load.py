"""Plain checkpoints and mmengine's load safely, and all others are refused.

Each test runs with torch's weights-only loading, and with ours for torch before 2.6.
"""

import collections
import io
import pickle
import re
import tarfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import _load_checkpoint
from torch import _weights_only_unpickler, serialization

from focal_retinanet.cli.errors import UserError
from focal_retinanet.engine.checkpoints import restricted_unpickler
from focal_retinanet.engine.checkpoints.load import (
    UnsafeCheckpointError,
    enforce_safe_loading,
)


@pytest.fixture(params=["torch's", 'restricted'], autouse=True)
def unpickler(request, monkeypatch):
    """Run a test with torch's unpickler and with ours, which must behave alike."""
    if request.param == "torch's":
        if restricted_unpickler.is_needed():
            pytest.skip('this torch cannot be taught further types')
        return request.param
    for module, name in [
        (_weights_only_unpickler, 'Unpickler'),
        (_weights_only_unpickler, 'load'),
        (serialization, '_legacy_load'),
        (serialization, '_is_torchscript_zip'),
    ]:
        monkeypatch.setattr(module, name, getattr(module, name))  # restored
    monkeypatch.setattr(restricted_unpickler, '_allowed', {})
    monkeypatch.setattr(restricted_unpickler, 'is_needed', lambda: True)
    enforce_safe_loading()
    return request.param


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


@pytest.mark.parametrize('zip_format', [True, False])
def test_all_kinds_of_plain_content_load(tmp_path, zip_format):
    saved = dict(
        tensors=[
            torch.arange(3, dtype=dtype) for dtype in (torch.bfloat16, torch.int8)
        ],
        flags=torch.tensor([True, False]),
        parameter=torch.nn.Parameter(torch.ones(2)),
        shape=torch.Size([1, 2]),
        dtype=torch.uint8,
        device=torch.device('cpu'),
        counter=collections.Counter('aab'),
        state=torch.nn.BatchNorm2d(2).state_dict(),
        text='\u03b1',
        data=b'\x00\xff',
        buffer=bytearray(b'ab'),
        numbers={1, 2**40, -3, 0.5, 1j, None},
        nested=[((1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], {}, ())],
        array=np.arange(6, dtype=np.float32).reshape(2, 3),
    )
    saved['again'] = saved['tensors'][0]
    file = tmp_path / 'plain.pth'
    torch.save(saved, file, _use_new_zipfile_serialization=zip_format)
    loaded = _load_checkpoint(str(file), map_location='cpu')

    assert loaded.keys() == saved.keys()
    assert loaded['again'] is loaded['tensors'][0]
    assert isinstance(loaded['parameter'], torch.nn.Parameter)
    assert loaded['state']._metadata == saved['state']._metadata
    for name in ('tensors', 'flags', 'parameter', 'array', 'state'):
        torch.testing.assert_close(loaded[name], saved[name], rtol=0, atol=0)
    for name in set(saved) - {'tensors', 'flags', 'parameter', 'array', 'state'}:
        if name != 'again':
            assert loaded[name] == saved[name]


def test_optimizer_resumes(tmp_path):
    layer = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    file = tmp_path / 'epoch_1.pth'
    torch.save(
        dict(state_dict=layer.state_dict(), optimizer=optimizer.state_dict()), file
    )
    state = _load_checkpoint(str(file), map_location='cpu')['optimizer']['state']
    assert len(state) == 2
    torch.testing.assert_close(state[0], optimizer.state_dict()['state'][0])


@pytest.mark.parametrize(
    'module', ['numpy.core.multiarray', 'numpy._core.multiarray'], ids=['1', '2']
)
def test_arrays_of_either_numpy_load(module):
    content = pickle.dumps(dict(lr=np.float64(0.25)), protocol=2)
    content = re.sub(rb'numpy\._?core\.multiarray', module.encode(), content)
    assert _weights_only_unpickler.load(io.BytesIO(content))['lr'] == 0.25


# Pickles of protocol 2, by what they do.
ATTACKS = {
    'calls what is not on the list': b'cos\nsystem\n(X\x04\x00\x00\x00exittR.',
    'by its name in Python 2': b'c__builtin__\neval\n(X\x01\x00\x00\x001tR.',
    'by a dotted name': b'ctorch\nhub.load\n.',
    'calls an object on the stack': b'X\x01\x00\x00\x00a)R.',
    'calls a method of a dict': (b'cbuiltins\ngetattr\n(}X\x03\x00\x00\x00gettR.'),
    'makes an object of another class': b'cbuiltins\nset\n0ccollections\ndeque\n)\x81.',
    'sets an attribute of a class': (b'ctorch\nTensor\nN}X\x03\x00\x00\x00addNs\x86b.'),
    'sets an attribute of a function': b'c_codecs\nencode\n}X\x01\x00\x00\x00aNsb.',
    'appends to what is no list': b'ccollections\nCounter\n)RNa.',
    'extends what is no list': b'cbuiltins\nbytearray\n)R(K\x01e.',
    'sets an item of what is no dict': b'cbuiltins\nbytearray\n)RK\x00K\x01s.',
    'names a persistent object': b'X\x06\x00\x00\x00module\x85Q.',
    'uses the registry of extensions': b'\x82\x01.',
    'builds by INST': b'(ios\ngetcwd\n.',
    'builds by OBJ': b'(cbuiltins\nset\no.',
    'uses protocol 4': b'\x8c\x02os\x8c\x06getcwd\x93)R.',
}


@pytest.mark.parametrize('attack', ATTACKS)
def test_pickle_that_does_more_than_hold_data_is_refused(attack, unpickler):
    if unpickler != 'restricted':
        pytest.skip("how strict torch's own is, is a matter of its version")
    file = io.BytesIO(b'\x80\x02' + ATTACKS[attack])
    with pytest.raises(pickle.UnpicklingError):
        _weights_only_unpickler.load(file)


def test_archives_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    file = tmp_path / 'legacy.pth'
    (tmp_path / 'storages').touch()
    with tarfile.open(file, 'w', format=tarfile.PAX_FORMAT) as tar:
        tar.add(tmp_path / 'storages', 'storages')
    unpacked = []
    monkeypatch.setattr(
        tarfile.TarFile, 'extract', lambda self, *args, **kwargs: unpacked.append(args)
    )
    with pytest.raises(UnsafeCheckpointError, match=r'legacy\.pth'):
        _load_checkpoint(str(file), map_location='cpu')
    assert not unpacked


def test_torchscript_is_refused(tmp_path):
    file = tmp_path / 'script.pt'
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(file))
    with pytest.raises(UnsafeCheckpointError, match=r'script\.pt'):
        _load_checkpoint(str(file), map_location='cpu')


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


@pytest.mark.parametrize('suffix', ['.onnx', '.xml', '.pt2'])
def test_an_exported_file_is_no_checkpoint(tmp_path, suffix):
    file = tmp_path / f'model{suffix}'
    file.write_bytes(b'exported')
    with pytest.raises(
        UserError, match=rf'model\{suffix} is an exported file'
    ) as error:
        _load_checkpoint(str(file), map_location='cpu')
    assert '--unsafe-checkpoint' not in str(error.value)


def test_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r'gone\.pth not found'):
        _load_checkpoint('gone.pth', map_location='cpu')
