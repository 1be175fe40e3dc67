"""The beginning and the end of a distributed run."""

import gc
import os

import torch
from mmengine.dist import is_distributed
from mmengine.runner import Runner

from focal_retinanet.cli.errors import UserError

# What each launcher tells the processes that it starts, and how they are started.
_ENVIRONMENT = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'),
    'mpi': (
        'OMPI_COMM_WORLD_LOCAL_RANK',
        'OMPI_COMM_WORLD_RANK',
        'OMPI_COMM_WORLD_SIZE',
        'MASTER_ADDR',
    ),
}
_START = {
    'pytorch': 'tools/dist_train.sh CONFIG PROCESSES (tools/dist_test.sh to test), or '
    'torchrun --nproc_per_node=PROCESSES tools/train.py CONFIG --launcher pytorch',
    'slurm': 'srun --ntasks=PROCESSES --gres=gpu:GPUS_OF_A_NODE python tools/train.py '
    'CONFIG --launcher slurm',
    'mpi': 'mpirun -n PROCESSES -x MASTER_ADDR=HOST python tools/train.py CONFIG '
    '--launcher mpi',
}
_PROCESSES_HERE = {
    'pytorch': 'LOCAL_WORLD_SIZE',
    'slurm': 'SLURM_NTASKS_PER_NODE',
    'mpi': 'OMPI_COMM_WORLD_LOCAL_SIZE',
}
_INDEX_HERE = {
    'pytorch': 'LOCAL_RANK',
    'slurm': 'SLURM_LOCALID',
    'mpi': 'OMPI_COMM_WORLD_LOCAL_RANK',
}


def check_launcher(launcher: str) -> None:
    """See that this process is one of those that a launcher starts.

    Args:
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.

    Raises:
        UserError: no such launcher has started it, or there are fewer GPUs than
            processes on this machine, where there are any.
    """
    if launcher == 'none':
        return
    if launcher not in _ENVIRONMENT:
        names = ', '.join(_ENVIRONMENT)
        raise UserError(f'launcher {launcher!r} is none of none, {names}')
    missing = [name for name in _ENVIRONMENT[launcher] if name not in os.environ]
    if missing:
        raise UserError(
            f'--launcher {launcher} is for processes that {launcher} has started, and '
            f'{", ".join(missing)} is not set. Start them by {_START[launcher]}; one '
            'process alone needs no --launcher'
        )
    if not torch.cuda.is_available():
        if launcher != 'pytorch':
            raise UserError(
                f'--launcher {launcher} needs GPUs, and there are none; on CPUs, start '
                f'the processes by {_START["pytorch"]}'
            )
        return
    gpus = torch.cuda.device_count()
    # All processes of a machine see the first, so that the one that prints does.
    processes = _number(_PROCESSES_HERE[launcher]) or 0
    processes = max(processes, 1 + (_number(_INDEX_HERE[launcher]) or 0))
    if processes > gpus:
        raise UserError(
            f'{processes} processes on a machine with {gpus} GPUs in sight: each needs '
            f'one of its own. Start {gpus}, or show more of them by '
            "CUDA_VISIBLE_DEVICES; CUDA_VISIBLE_DEVICES='' and --launcher pytorch take "
            'CPUs'
        )


def _number(name: str) -> int | None:
    value = os.environ.get(name, '')
    return int(value) if value.isdigit() else None


def end_distributed(runner: Runner) -> None:
    """Leave the process group, after which the runner has no model.

    A process that ends while DDP is alive may abort, which torch over gloo does in
    one run out of six.
    """
    if not is_distributed():
        return
    runner.model = None
    gc.collect()
    torch.distributed.destroy_process_group()
