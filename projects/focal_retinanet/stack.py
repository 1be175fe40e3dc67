"""Checks that the installed packages provide an mmdet that works.

OpenMMLab's packages and their maintained forks provide the same import names mmdet,
mmcv and mmengine. Either set works; together they overwrite each other's files. The
checks read package metadata only, which takes milliseconds.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True)
class Requirement:
    """A distribution, its supported versions, and a version that was tested."""

    name: str
    supported: str
    recommended: str


STACKS = {
    'openmmlab': (
        Requirement('mmengine', '>=0.10.0,<1.0', '0.10.7'),
        # Earlier versions use C++14, with which torch 2.1 does not compile; mmdet
        # 3.3.0 refuses later ones.
        Requirement('mmcv', '>=2.1.0,<2.2.0', '2.1.0'),
        Requirement('mmdet', '>=3.3.0,<3.4', '3.3.0'),
    ),
    'onedl': (
        Requirement('onedl-mmengine', '>=0.10.8,<0.11', '0.10.12'),
        Requirement('onedl-mmcv', '>=2.3.0,<2.4', '2.3.6'),
        Requirement('onedl-mmdetection', '>=3.5.0,<3.6', '3.5.1'),
    ),
}
# Tested: 2.1.2 with numpy 1.26, 2.13 and 2.14.1 with numpy 2.2. Versions before 2.1
# have no `torch.compiler`.
TORCH = Requirement('torch', '>=2.1', '2.13.0')
# Builds of mmcv without operators, and the stack that each belongs to.
_WITHOUT_OPERATORS = {'mmcv-lite': 'openmmlab', 'onedl-mmcv-lite': 'onedl'}


def check_stack() -> None:
    """Check the installed packages.

    Raises:
        ImportError: :func:`find_problem` has found a problem.
    """
    names = {r.name for stack in STACKS.values() for r in stack}
    installed = {}
    for name in (TORCH.name, *names, *_WITHOUT_OPERATORS):
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    problem = find_problem(installed)
    if problem is not None:
        raise ImportError(f'focal_retinanet cannot work here: {problem}')


def find_problem(installed: Mapping[str, str]) -> str | None:
    """Describe the first problem of the installed distributions and its remedy.

    Args:
        installed: Version of each distribution by name.

    Returns:
        The package, its version and the command to run; None if there is no problem.
    """
    present = {
        name: ' '.join(r.name for r in stack if r.name in installed)
        for name, stack in STACKS.items()
    }
    ours, forks = present['openmmlab'], present['onedl']
    if ours and forks:
        return (
            f'both OpenMMLab packages ({ours}) and their forks ({forks}) are installed, '
            'which overwrite each other; remove all, then install one set: '
            f'pip uninstall {ours} {forks}'
        )
    for lite, stack in _WITHOUT_OPERATORS.items():
        if lite in installed:
            mmcv = STACKS[stack][1]
            return (
                f'{lite} {installed[lite]} is installed, which has no operators; '
                f'replace it: pip uninstall -y {lite} && {_install(mmcv)}'
            )
    requirements = (TORCH, *STACKS['onedl' if forks else 'openmmlab'])
    for requirement in requirements:
        if requirement.name not in installed:
            return f'{requirement.name} is not installed; {_install(requirement)}'
    # Imported late: all of the stack needs it, but PyTorch alone does not.
    from packaging.specifiers import SpecifierSet

    for requirement in requirements:
        found = installed[requirement.name]
        if not SpecifierSet(requirement.supported).contains(found, prereleases=True):
            return (
                f'{requirement.name} {found} is installed, but {requirement.supported} '
                f'is needed; {_install(requirement)}'
            )
    return None


def _install(requirement: Requirement) -> str:
    # The build of mmcv must see the installed torch.
    compiled = '--no-build-isolation ' if requirement.name.endswith('mmcv') else ''
    return f'pip install {compiled}{requirement.name}=={requirement.recommended}'
