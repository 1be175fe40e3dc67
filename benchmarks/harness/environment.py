"""Where a figure was measured: command, commit, hardware, versions."""

import os
import platform
import re
import shlex
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import torch

_DISTRIBUTIONS = re.compile(
    '(torchvision|numpy|(onedl-)?mm(engine|cv|det|detection)|pycocotools'
    '|faster-coco-eval|triton)'
)
# Variables that change what is measured.
_VARIABLES = re.compile(
    'FOCAL_RETINANET_NATIVE|(OMP|MKL)_NUM_THREADS|CUDA_VISIBLE_DEVICES'
    '|PYTORCH_CUDA_ALLOC_CONF'
)
# Code and configs; records that earlier runs wrote do not count.
_MEASURED = (':/projects', ':/configs', ':/benchmarks/*.py')


def describe_environment() -> dict:
    """Return the command, commit, hardware, versions and variables, for JSON."""
    changes = _git('status', '--porcelain', '--', *_MEASURED)
    return dict(
        command=shlex.join(['python', *sys.argv]),
        commit=_git('rev-parse', 'HEAD'),
        uncommitted_changes=None if changes is None else bool(changes),
        hardware=dict(
            cpu=_cpu_model(),
            cores=len(os.sched_getaffinity(0))
            if hasattr(os, 'sched_getaffinity')
            else os.cpu_count(),
            load_average=os.getloadavg()[0],
            memory_gib=_memory_gib(),
            gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        ),
        threads=torch.get_num_threads(),
        versions=dict(
            python=platform.python_version(),
            # torch's metadata does not always name its build.
            torch=str(torch.__version__),
            cuda=torch.version.cuda,
            cudnn=torch.backends.cudnn.version(),
            **_versions(),
        ),
        variables={k: v for k, v in os.environ.items() if _VARIABLES.fullmatch(k)},
    )


def _versions() -> dict[str, str]:
    found = {
        (d.metadata['Name'] or '').lower().replace('_', '-'): d.version
        for d in distributions()
    }
    return {
        name: found[name] for name in sorted(found) if _DISTRIBUTIONS.fullmatch(name)
    }


def _git(*arguments: str) -> str | None:
    """Return what git prints about this repository; None outside of one."""
    try:
        done = subprocess.run(
            ['git', '-C', str(Path(__file__).parent), *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _cpu_model() -> str:
    info = Path('/proc/cpuinfo')
    text = info.read_text() if info.exists() else ''
    found = re.search(r'model name\s*: (.*)', text)
    return found[1] if found else platform.processor() or platform.machine()


def _memory_gib() -> float:
    return round(os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30, 1)
