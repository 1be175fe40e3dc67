"""Start and end of a distributed run."""

import gc
import os

import torch
from mmengine.dist import is_distributed
from mmengine.runner import Runner

from focal_retinanet.cli.errors import UserError

# Variables that each launcher sets for its processes, and the command to start them.
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
# Variables that hold the number of processes on this machine, and this one's index.
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
    """Check that the launcher has started this process, and that there are GPUs.

    Args:
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.

    Raises:
        UserError: The launcher is unknown or has not started this process; or this
            machine has GPUs, but fewer than processes; or it has none, and the
            launcher is not ``pytorch``.
    """
    if launcher == 'none':
        return
    if launcher not in _ENVIRONMENT:
        names = ', '.join(_ENVIRONMENT)
        raise UserError(f'launcher {launcher!r} is none of none, {names}')
    missing = [name for name in _ENVIRONMENT[launcher] if name not in os.environ]
    if missing:
        raise UserError(
            f'--launcher {launcher} is for processes that {launcher} has started, but '
            f'{", ".join(missing)} is not set. Start them with {_START[launcher]}; a '
            'single process needs no --launcher'
        )
    if not torch.cuda.is_available():
        if launcher != 'pytorch':
            raise UserError(
                f'--launcher {launcher} needs GPUs, and there are none; on CPUs, start '
                f'the processes with {_START["pytorch"]}'
            )
        return
    gpus = torch.cuda.device_count()
    # All processes must fail, so that the first one, which prints the error, does.
    processes = _number(_PROCESSES_HERE[launcher]) or 0
    processes = max(processes, 1 + (_number(_INDEX_HERE[launcher]) or 0))
    if processes > gpus:
        raise UserError(
            f'{processes} processes on a machine with {gpus} GPUs visible: each needs '
            f'its own. Start {gpus} processes, or make more GPUs visible in '
            "CUDA_VISIBLE_DEVICES; CUDA_VISIBLE_DEVICES='' with --launcher pytorch uses "
            'CPUs'
        )


def _number(name: str) -> int | None:
    value = os.environ.get(name, '')
    return int(value) if value.isdigit() else None


def end_distributed(runner: Runner) -> None:
    """Delete the runner's model and leave the process group.

    A process that ends while DDP is alive may abort; with gloo, one run in six does.
    """
    if is_distributed():
        runner.model = None
        gc.collect()
        torch.distributed.destroy_process_group()
