"""The probe decides once per device whether Triton works."""

import contextlib
import logging
import sys

import pytest
import torch

from focal_retinanet.ops import fast_paths, matching
from focal_retinanet.ops.fast_paths import triton_probe
from focal_retinanet.ops.matching import triton as matching_triton

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
INTERPRET = '1' if DEVICE == 'cpu' else '0'
with pytest.MonkeyPatch.context() as environment:
    environment.setenv('TRITON_INTERPRET', INTERPRET)  # read by the import
    pytest.importorskip('triton', '3.0', reason='no Triton 3.0 or later')
    from focal_retinanet.ops.fast_paths import triton_probe_kernel
    from focal_retinanet.ops.matching import triton_kernels as matching_kernels

CUDA = torch.device('cuda', 0)


@pytest.fixture(autouse=True)
def as_with_a_gpu(monkeypatch):
    """Makes the probe's calls of CUDA do nothing, and forgets earlier answers."""
    monkeypatch.setattr(
        triton_probe, '_synchronisation_allowed', contextlib.nullcontext
    )
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda device: None)
    triton_probe._works.cache_clear()
    yield
    triton_probe._works.cache_clear()


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.INFO, logger='focal_retinanet')
    return lambda: [record.getMessage() for record in caplog.records]


def test_each_device_and_kernel_is_probed_once(warnings):
    launches = []
    for index in (0, 1, 0, 1):
        assert triton_probe.works(torch.device('cuda', index), launches.append)
    assert launches == [torch.device('cuda', 0), torch.device('cuda', 1)]
    assert not warnings()


def test_cpu_is_not_probed(warnings):
    assert not triton_probe.works(torch.device('cpu'), pytest.fail)
    assert not warnings()


@pytest.mark.parametrize(
    'error',
    [
        RuntimeError('Failed to find C compiler.\nPlease specify CC'),
        ImportError('DLL load failed'),
        AttributeError("module 'triton.language' has no attribute 'div_rn'"),
    ],
    ids=repr,
)
def test_any_error_means_no_with_one_warning(error, warnings):
    def launch(device):
        raise error

    assert not triton_probe.works(CUDA, launch)
    assert not triton_probe.works(CUDA, launch)
    (warning,) = warnings()
    assert 'cuda:0' in warning
    assert type(error).__name__ in warning
    assert str(error).replace('\n', ' ') in warning


def test_error_of_a_synchronisation_means_no(monkeypatch, warnings):
    def synchronize(device):
        raise RuntimeError('no kernel image is available')

    monkeypatch.setattr(torch.cuda, 'synchronize', synchronize)
    assert not triton_probe.works(CUDA, lambda device: None)
    assert 'no kernel image is available' in warnings()[0]


def test_modes_of_the_caller_do_not_reach_the_launch():
    seen = []

    def launch(device):
        x = torch.ones(1)
        seen.extend([x.device.type, x.is_inference(), torch.is_grad_enabled()])

    with torch.device('meta'), torch.inference_mode():
        assert triton_probe.works(CUDA, launch)
    assert seen == ['cpu', False, True]


class Nothing:
    """Kernel that does nothing."""

    def __getitem__(self, grid):
        return lambda *args, **kwargs: None


def test_wrong_result_means_no(monkeypatch, warnings):
    monkeypatch.setenv('TRITON_INTERPRET', INTERPRET)
    device = torch.device(DEVICE)
    for launch, module, kernel in (
        (triton_probe.double_a_few_numbers, triton_probe_kernel, 'double'),
        (matching_triton.match_a_few_anchors, matching_kernels, 'match_low_quality'),
    ):
        triton_probe._works.cache_clear()
        assert triton_probe._works(device, launch)
        triton_probe._works.cache_clear()
        monkeypatch.setattr(module, kernel, Nothing())
        assert not triton_probe._works(device, launch)
    assert [message.count('RuntimeError') for message in warnings()] == [1, 1]


@pytest.mark.parametrize('launch', [None, matching_triton.match_a_few_anchors])
def test_without_triton(launch, monkeypatch, warnings):
    monkeypatch.setitem(sys.modules, 'triton', None)
    for package, kernels in (
        (fast_paths, 'triton_probe_kernel'),
        (matching, 'triton_kernels'),
    ):
        monkeypatch.delitem(sys.modules, f'{package.__name__}.{kernels}')
        monkeypatch.delattr(package, kernels)
    # On a CPU, the import of Triton fails before anything is launched.
    device = torch.device('cpu')
    assert not triton_probe._works(device, launch or triton_probe.double_a_few_numbers)
    (warning,) = warnings()
    assert 'ModuleNotFoundError' in warning
    assert 'triton' in warning


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu_the_probe_says_no(monkeypatch, warnings):
    monkeypatch.undo()  # torch.cuda as it is
    triton_probe._works.cache_clear()
    assert not triton_probe.works(CUDA)
    assert len(warnings()) == 1
