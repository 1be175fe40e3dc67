"""A launcher that has not started the process is an error with the right command."""

import argparse

import pytest

from focal_retinanet.cli.arguments import add_run_arguments
from focal_retinanet.cli.errors import UserError
from focal_retinanet.engine import distributed
from focal_retinanet.engine.config import load_config
from focal_retinanet.engine.distributed import check_launcher

STARTED = {
    'pytorch': dict(
        RANK='0',
        WORLD_SIZE='4',
        MASTER_ADDR='localhost',
        MASTER_PORT='1',
        LOCAL_RANK='0',
    ),
    'slurm': dict(SLURM_PROCID='0', SLURM_NTASKS='4', SLURM_NODELIST='a'),
    'mpi': dict(
        OMPI_COMM_WORLD_LOCAL_RANK='0',
        OMPI_COMM_WORLD_RANK='0',
        OMPI_COMM_WORLD_SIZE='4',
        MASTER_ADDR='localhost',
    ),
}
HOW_TO_START = dict(pytorch='torchrun --nproc', slurm='srun --ntasks', mpi='mpirun -n')


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    for names in distributed._ENVIRONMENT.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    for name in ('LOCAL_RANK', 'LOCAL_WORLD_SIZE', 'SLURM_NTASKS_PER_NODE'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv('SLURM_LOCALID', raising=False)


@pytest.fixture
def gpus(monkeypatch):
    """Return a function that sets the number of GPUs of this machine."""

    def set_gpus(number):
        monkeypatch.setattr(distributed.torch.cuda, 'is_available', lambda: number > 0)
        monkeypatch.setattr(distributed.torch.cuda, 'device_count', lambda: number)

    return set_gpus


@pytest.mark.parametrize('launcher', STARTED)
def test_a_process_that_was_not_launched(launcher, monkeypatch, gpus):
    gpus(4)
    first, *_ = STARTED[launcher]
    for name, value in STARTED[launcher].items():
        if name != first:
            monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        check_launcher(launcher)
    assert f'--launcher {launcher}' in str(caught.value)
    assert f'{first} is not set' in str(caught.value)
    assert HOW_TO_START[launcher] in str(caught.value)
    monkeypatch.setenv(first, STARTED[launcher][first])
    check_launcher(launcher)


def test_the_tools_look_at_it_before_anything_is_built(tiny_config, tmp_path, gpus):
    gpus(0)
    tiny_config.dump(tmp_path / 'tiny.py')
    parser = argparse.ArgumentParser()
    add_run_arguments(parser)
    for words in (['--launcher', 'pytorch'], ['--cfg-options', 'launcher=pytorch']):
        with pytest.raises(UserError, match='torchrun'):
            load_config(parser.parse_args([str(tmp_path / 'tiny.py'), *words]))
    with pytest.raises(UserError, match="launcher 'torch' is none of none, pytorch"):
        check_launcher('torch')


@pytest.mark.parametrize('launcher', STARTED)
@pytest.mark.parametrize('sees', ['number', 'index'])
def test_more_processes_than_gpus(launcher, sees, monkeypatch, gpus):
    for name, value in STARTED[launcher].items():
        monkeypatch.setenv(name, value)
    gpus(2)
    if sees == 'number':
        monkeypatch.setenv(distributed._PROCESSES_HERE[launcher], '2')
        check_launcher(launcher)
        monkeypatch.setenv(distributed._PROCESSES_HERE[launcher], '3')
    else:
        monkeypatch.setenv(distributed._INDEX_HERE[launcher], '1')
        check_launcher(launcher)
        monkeypatch.setenv(distributed._INDEX_HERE[launcher], '2')
    with pytest.raises(UserError, match='3 processes on a machine with 2 GPUs'):
        check_launcher(launcher)


def test_without_gpus_torchrun_takes_cpus(monkeypatch, gpus):
    gpus(0)
    for launcher, names in STARTED.items():
        for name, value in names.items():
            monkeypatch.setenv(name, value)
        if launcher == 'pytorch':
            check_launcher(launcher)
        else:
            with pytest.raises(UserError, match=r'needs GPUs.*dist_train'):
                check_launcher(launcher)
    check_launcher('none')
