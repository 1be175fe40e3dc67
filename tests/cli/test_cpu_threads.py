"""Tools set how threads wait before torch reads it, unless the user has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / 'tools'


def loaded_by(tool, **environment):
    """The setting of a process that has loaded a tool, and what came first."""
    code = (
        'import os, runpy, sys\n'
        f'runpy.run_path({str(TOOLS / tool)!r})\n'
        'names = list(sys.modules)\n'
        'first = names.index("focal_retinanet.cli.cpu_threads") < names.index("torch")\n'
        'print(os.environ.get("GOMP_SPINCOUNT"), first)\n'
    )
    clean = {
        key: value
        for key, value in os.environ.items()
        if key not in ('GOMP_SPINCOUNT', 'OMP_WAIT_POLICY')
    }
    return subprocess.run(
        [sys.executable, '-c', code],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()


@pytest.mark.parametrize('tool', ['train.py', 'test.py', 'infer.py'])
def test_it_is_set_before_torch_is_loaded(tool):
    assert loaded_by(tool) == ['1000', 'True']


def test_what_the_user_has_set_stays():
    assert loaded_by('train.py', GOMP_SPINCOUNT='7')[0] == '7'
    assert loaded_by('train.py', OMP_WAIT_POLICY='ACTIVE')[0] == 'None'
