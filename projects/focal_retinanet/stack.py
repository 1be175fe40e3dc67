"""Which packages provide mmdet here, and whether they are ones that work.

Two sets of packages provide the import names mmdet, mmcv and mmengine:
OpenMMLab's own, and the maintained forks. Each alone works; together they
overwrite each other's files. Only the metadata of what is installed is read, so
this costs milliseconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from packaging.specifiers import SpecifierSet


@dataclass(frozen=True)
class Requirement:
    """A distribution, the versions that work, and one that is known to."""

    name: str
    supported: str
    recommended: str


STACKS = {
    'openmmlab': (
        Requirement('mmengine', '>=0.10.0,<1.0', '0.10.7'),
        # Earlier ones ask for C++14, with which torch 2.1 does not compile; later
        # ones mmdet 3.3.0 itself refuses.
        Requirement('mmcv', '>=2.1.0,<2.2.0', '2.1.0'),
        Requirement('mmdet', '>=3.3.0,<3.4', '3.3.0'),
    ),
    'onedl': (
        Requirement('onedl-mmengine', '>=0.10.8,<0.11', '0.10.12'),
        Requirement('onedl-mmcv', '>=2.3.0,<2.4', '2.3.6'),
        Requirement('onedl-mmdetection', '>=3.5.0,<3.6', '3.5.1'),
    ),
}
# Seen to work: 2.1.2 with numpy 1.26, 2.13 and 2.14.1 with numpy 2.2. Before 2.1
# there is no `torch.compiler`.
TORCH = Requirement('torch', '>=2.1', '2.13.0')
# Builds of mmcv that are no use here, and the stack that each belongs to.
_WITHOUT_OPERATORS = {'mmcv-lite': 'openmmlab', 'onedl-mmcv-lite': 'onedl'}


def check_stack() -> None:
    """Check what is installed.

    Raises:
        ImportError: as :func:`find_problem` says.
    """
    names = {r.name for stack in STACKS.values() for r in stack}
    names |= {TORCH.name, *_WITHOUT_OPERATORS}
    installed = {}
    for name in names:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    problem = find_problem(installed)
    if problem is not None:
        raise ImportError(f'focal_retinanet cannot work here: {problem}')


def find_problem(installed: Mapping[str, str]) -> str | None:
    """What is wrong with a set of installed distributions, and its remedy.

    Args:
        installed: version of each distribution by name.

    Returns:
        None if all is well, else the package, its version and the command that
        mends it.
    """
    if problem := _version_problem(TORCH, installed):
        return problem
    present = [
        name
        for name, stack in STACKS.items()
        if any(requirement.name in installed for requirement in stack)
    ]
    if len(present) > 1:
        ours, forks = (
            ' '.join(r.name for r in STACKS[name] if r.name in installed)
            for name in STACKS
        )
        everything = f'{ours} {forks}'
        return (
            f'both OpenMMLab packages ({ours}) and their forks ({forks}) are installed, '
            'which overwrite each other; remove all, then install one set: '
            f'pip uninstall {everything}'
        )
    for lite, stack in _WITHOUT_OPERATORS.items():
        if lite in installed:
            mmcv = STACKS[stack][1]
            return (
                f'{lite} {installed[lite]} is installed, which has no operators; '
                f'replace it: pip uninstall -y {lite} && {_install(mmcv)}'
            )
    for requirement in STACKS[present[0] if present else 'openmmlab']:
        if problem := _version_problem(requirement, installed):
            return problem
    return None


def _version_problem(
    requirement: Requirement, installed: Mapping[str, str]
) -> str | None:
    found = installed.get(requirement.name)
    remedy = _install(requirement)
    if found is None:
        return f'{requirement.name} is not installed; {remedy}'
    if not SpecifierSet(requirement.supported).contains(found, prereleases=True):
        return (
            f'{requirement.name} {found} is installed, {requirement.supported} is '
            f'needed; {remedy}'
        )
    return None


def _install(requirement: Requirement) -> str:
    # mmcv is compiled, and has to see the installed torch.
    compiled = '--no-build-isolation ' if requirement.name.endswith('mmcv') else ''
    return f'pip install {compiled}{requirement.name}=={requirement.recommended}'
