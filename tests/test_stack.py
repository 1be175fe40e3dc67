"""The check of installed packages names package, version and remedy."""

import subprocess
import sys

import pytest

from focal_retinanet.stack import check_stack, find_problem

TORCH = {'torch': '2.13.0+cpu'}
OPENMMLAB = {**TORCH, 'mmengine': '0.10.7', 'mmcv': '2.1.0', 'mmdet': '3.3.0'}
ONEDL = {
    **TORCH,
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmdetection': '3.5.1',
}


OLDEST = {'torch': '2.1.0', 'mmengine': '0.10.0', 'mmcv': '2.1.0', 'mmdet': '3.3.0'}
NEWER_TORCH = {**OPENMMLAB, 'torch': '2.14.1+cu130'}


@pytest.mark.parametrize('installed', [OPENMMLAB, ONEDL, OLDEST, NEWER_TORCH])
def test_supported_stacks_pass(installed):
    assert find_problem(installed) is None


@pytest.mark.parametrize(
    ('installed', 'says'),
    [
        ({}, ['torch is not installed', 'pip install torch==2.13.0']),
        (TORCH, ['mmengine is not installed', 'pip install mmengine==0.10.7']),
        (
            {**OPENMMLAB, 'mmcv': '2.2.0'},
            ['mmcv 2.2.0', '<2.2.0', 'pip install --no-build-isolation mmcv==2.1.0'],
        ),
        ({**OPENMMLAB, 'mmcv': '2.0.1'}, ['mmcv 2.0.1', '>=2.1.0']),
        ({**OPENMMLAB, 'mmdet': '2.28.2'}, ['mmdet 2.28.2', 'mmdet==3.3.0']),
        ({**OPENMMLAB, 'torch': '2.0.1'}, ['torch 2.0.1', '>=2.1']),
        (
            {k: v for k, v in ONEDL.items() if k != 'onedl-mmcv'},
            ['onedl-mmcv is not installed', 'onedl-mmcv==2.3.6'],
        ),
        (
            {**OPENMMLAB, **ONEDL},
            [
                'overwrite each other',
                'pip uninstall mmengine mmcv mmdet onedl-mmengine',
            ],
        ),
        (
            {**TORCH, 'mmengine': '0.10.7', 'mmcv-lite': '2.1.0', 'mmdet': '3.3.0'},
            ['mmcv-lite 2.1.0', 'no operators', ' mmcv==2.1.0'],
        ),
        (
            {**TORCH, 'onedl-mmcv-lite': '2.3.6', 'onedl-mmdetection': '3.5.1'},
            ['onedl-mmcv-lite 2.3.6', 'no operators', ' onedl-mmcv==2.3.6'],
        ),
    ],
)
def test_problem_names_package_version_and_remedy(installed, says):
    problem = find_problem(installed)
    for words in says:
        assert words in problem


def test_import_fails_clearly_without_mmdet(monkeypatch):
    import importlib.metadata

    from focal_retinanet import stack

    def not_found(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(stack, 'version', not_found)
    with pytest.raises(ImportError, match='focal_retinanet cannot work here: torch'):
        check_stack()


@pytest.mark.parametrize(
    'statement',
    [
        'import focal_retinanet.cli',
        'import focal_retinanet.registry',
        'from focal_retinanet import Detector',
    ],
)
def test_without_mmdet_tools_and_components_say_so(statement):
    """And the arithmetic works all the same."""
    script = (
        'import importlib.metadata as metadata\n'
        'version = metadata.version\n'
        'def without_mmdet(name):\n'
        '    if name == "mmdet": raise metadata.PackageNotFoundError(name)\n'
        '    return version(name)\n'
        'metadata.version = without_mmdet\n'
        'import focal_retinanet.ops\n'
        f'{statement}\n'
    )
    run = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert 'focal_retinanet cannot work here: mmdet is not installed' in run.stderr


def test_check_loads_no_heavy_module():
    code = (
        'import sys, focal_retinanet.cli.cpu_threads; '
        'sys.exit(bool({"torch", "mmdet", "mmcv", "mmengine"} & set(sys.modules)))'
    )
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
