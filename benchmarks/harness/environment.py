"""Where a figure was measured: hardware, versions, commit, command."""

import os
import platform
import re
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

_DISTRIBUTIONS = (
    'torch',
    'torchvision',
    'numpy',
    'mmengine',
    'mmcv',
    'mmdet',
    'onedl-mmengine',
    'onedl-mmcv',
    'onedl-mmdetection',
    'pycocotools',
    'faster-coco-eval',
    'triton',
)
#: Variables that change what is measured.
_VARIABLES = (
    'FOCAL_RETINANET_NATIVE',
    'OMP_NUM_THREADS',
    'MKL_NUM_THREADS',
    'CUDA_VISIBLE_DEVICES',
    'PYTORCH_CUDA_ALLOC_CONF',
)


def describe_environment() -> dict:
    """All of it, as JSON has it."""
    return dict(
        command=shlex.join(['python', *sys.argv]),
        commit=_git('rev-parse', 'HEAD'),
        uncommitted_changes=_has_changes(),
        hardware=dict(
            cpu=_cpu_model(),
            cores=len(os.sched_getaffinity(0))
            if hasattr(os, 'sched_getaffinity')
            else os.cpu_count(),
            load_average=os.getloadavg()[0] if hasattr(os, 'getloadavg') else None,
            memory_gib=_memory_gib(),
            gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        ),
        threads=torch.get_num_threads(),
        versions=dict(
            python=platform.python_version(),
            cuda=torch.version.cuda,
            cudnn=torch.backends.cudnn.version(),
            # The metadata of torch do not always name its build.
            **{**_versions(), 'torch': str(torch.__version__)},
        ),
        variables={name: os.environ[name] for name in _VARIABLES if name in os.environ},
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git(*arguments: str) -> str | None:
    """What git says of this package's repository, None without one."""
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


def _has_changes() -> bool | None:
    # Of what is measured; results written by earlier runs may lie about.
    status = _git(
        'status', '--porcelain', '--', ':/projects', ':/configs', ':/benchmarks/*.py'
    )
    return None if status is None else bool(status)


def _cpu_model() -> str:
    try:
        found = re.search(r'model name\s*: (.*)', Path('/proc/cpuinfo').read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        pages, size = os.sysconf('SC_PHYS_PAGES'), os.sysconf('SC_PAGE_SIZE')
    except (ValueError, OSError, AttributeError):
        return None
    return round(pages * size / 2**30, 1)
