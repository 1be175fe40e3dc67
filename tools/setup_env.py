"""Create the project's virtual environment; `make setup` runs this.

An interrupted set-up continues with the step that it was in, and a finished one
takes no time. Needs only Python's standard library.
"""

import argparse
import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / 'requirements'
PROJECT = ('runtime.txt', 'fast.txt', 'tests.txt')
MMCV_BUILD = ROOT / 'tools' / 'mmcv_build'
STACKS = {'openmmlab': 'mmcv', 'onedl': 'onedl-mmcv'}
GIGABYTE = 1e9


class SetupError(Exception):
    """A problem that the user must solve."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--venv', type=Path, default=Path('.venv'), help='folder of the environment'
    )
    parser.add_argument(
        '--stack',
        choices=STACKS,
        help='packages that provide mmdet (default: those already installed, or '
        'openmmlab)',
    )
    args = parser.parse_args()
    try:
        stack = choose_stack(args.venv, args.stack)
        Environment(args.venv, stack, has_gpu=has_nvidia_gpu()).make()
    except SetupError as error:
        sys.exit(f'set-up: {error}')
    except KeyboardInterrupt:
        sys.exit('set-up: interrupted; the same command continues from here')


def choose_stack(venv: Path, wanted: str | None) -> str:
    """Choose the stack to install, never a second one into an environment.

    Raises:
        SetupError: The environment has the other stack, or was made by others.
    """
    record = venv / '.setup' / 'stack-name'
    if record.exists():
        present = record.read_text().strip()
    elif record.parent.exists():
        # The set-up was interrupted before it wrote the record.
        present = installed_stack(venv) or wanted or 'openmmlab'
    elif venv.exists() and any(venv.iterdir()):
        raise SetupError(
            f'{venv} exists, but was not made by this set-up; name another folder '
            '(make VENV=...), or remove it'
        )
    else:
        return wanted or 'openmmlab'
    if wanted not in (None, present):
        raise SetupError(
            f'{venv} has the {present} stack, and the two overwrite each other; use '
            f'another environment (make STACK={wanted} VENV=.venv-{wanted}), or remove '
            f'{venv}'
        )
    return present


def installed_stack(venv: Path) -> str | None:
    """Return the stack whose mmcv or mmengine is in the environment, if any."""
    for stack, prefix in (('openmmlab', ''), ('onedl', 'onedl_')):
        for package in ('mmcv', 'mmengine'):
            pattern = f'lib/python*/site-packages/{prefix}{package}-*.dist-info'
            if any(venv.glob(pattern)):
                return stack
    return None


def has_nvidia_gpu() -> bool:
    try:
        return subprocess.run(['nvidia-smi', '-L'], capture_output=True).returncode == 0
    except OSError:
        return False


def check_machine(venv: Path, has_gpu: bool) -> None:
    """Check the requirements that would otherwise fail after minutes.

    Raises:
        SetupError: Python, its venv module, its headers, a compiler, nvcc or disk
            space is missing.
    """
    version = '.'.join(map(str, sys.version_info[:3]))
    package = f'python{sys.version_info[0]}.{sys.version_info[1]}'
    if not (3, 10) <= sys.version_info < (3, 14):
        raise SetupError(
            f'needs Python 3.10 to 3.13, this is {version}; name another '
            '(make PYTHON=/path/to/python3)'
        )
    # Debian ships venv without ensurepip; it would fail half-way.
    if not all(importlib.util.find_spec(name) for name in ('venv', 'ensurepip')):
        raise SetupError(
            f'this Python {version} cannot make environments; install the package '
            f'{package}-venv'
        )
    header = Path(sysconfig.get_path('include')) / 'Python.h'
    if not header.exists():
        raise SetupError(
            f'{header} is missing, which the build of mmcv needs; install the package '
            f'{package}-dev (or -devel)'
        )
    if find_compiler() is None:
        named = os.environ.get('CXX')
        found = f'CXX={named} is not there' if named else 'no C++ compiler found'
        raise SetupError(
            f'{found}, which mmcv needs; install g++ or clang++, or name one in CXX'
        )
    if has_gpu and find_nvcc() is None:
        raise SetupError(
            "there is an NVIDIA GPU but no nvcc, which mmcv's CUDA operators need; "
            'install the CUDA toolkit, or set CUDA_HOME'
        )
    needed = 20 if has_gpu else 4
    folder = next(path for path in venv.absolute().parents if path.exists())
    free = shutil.disk_usage(folder).free / GIGABYTE
    if free < needed:
        raise SetupError(
            f'{free:.1f} GB of disk are free at {folder}, but {needed} GB are needed'
        )


def find_compiler() -> str | None:
    """Return the C++ compiler of the build: CXX if it is set, and no other."""
    if named := os.environ.get('CXX', '').strip():
        # It may be a command with arguments, such as `ccache g++`.
        return named if shutil.which(shlex.split(named)[0]) else None
    return next(filter(shutil.which, ('c++', 'g++', 'clang++')), None)


def _is_gcc(compiler: str | None) -> bool:
    """Return whether a compiler is GCC.

    GCC reads text if a precompiled header has other flags; Clang fails.
    """
    if compiler is None:
        return False
    try:
        said = subprocess.run(
            [*shlex.split(compiler), '--version'], capture_output=True, text=True
        ).stdout
    except OSError:
        return False
    return 'Free Software Foundation' in said


def find_nvcc() -> str | None:
    """Return the nvcc that torch's build will find."""
    home = os.environ.get('CUDA_HOME') or os.environ.get('CUDA_PATH')
    if home:
        return shutil.which('nvcc', path=f'{home}/bin')
    return shutil.which('nvcc') or shutil.which('nvcc', path='/usr/local/cuda/bin')


class Environment:
    """A virtual environment, created step by step.

    Args:
        venv: Folder of the environment.
        stack: 'openmmlab' or 'onedl'.
        has_gpu: Whether to compile mmcv with CUDA.
    """

    def __init__(self, venv: Path, stack: str, has_gpu: bool) -> None:
        self.venv = venv
        self.stack = stack
        self.has_gpu = has_gpu
        self.stamps = venv / '.setup'
        self.log = self.stamps / 'log.txt'
        self.python = venv / 'bin' / 'python'

    def make(self) -> None:
        """Do the steps that are due.

        Raises:
            SetupError: A step has failed; the message has the end of its output.
        """
        stack = f'{self.stack} stack, compiling mmcv'
        constraints = [REQUIREMENTS / 'constraints.txt']
        of_stack = [REQUIREMENTS / f'{self.stack}.txt', *constraints]
        of_project = [REQUIREMENTS / name for name in PROJECT]
        of_project += [*constraints, ROOT / 'setup.py']
        steps: list[tuple[str, str, Callable[[], None], list[Path]]] = [
            ('venv', 'virtual environment', self._make_venv, []),
            ('torch', 'torch and build tools', self._install_torch, constraints),
            ('stack', stack, self._install_stack, of_stack),
            ('project', 'the project and its tests', self._install_project, of_project),
        ]
        # A step is due if a file of it or of an earlier step has changed.
        due, digest = [], hashlib.sha256(str(self.has_gpu).encode())
        for name, title, action, files in steps:
            for file in files:
                digest.update(file.read_bytes())
            stamp = self.stamps / name
            key = digest.hexdigest()
            if not stamp.exists() or stamp.read_text() != key:
                due.append((title, action, stamp, key))
        if not due:
            return

        check_machine(self.venv, self.has_gpu)
        self._announce([stamp.name for _, _, stamp, _ in due])
        self.stamps.mkdir(parents=True, exist_ok=True)
        (self.stamps / 'stack-name').write_text(self.stack + '\n')
        for number, (title, action, stamp, key) in enumerate(due, start=1):
            print(f'[{number}/{len(due)}] {title} ...', end=' ', flush=True)
            start = time.monotonic()
            action()
            stamp.write_text(key)
            print(f'{time.monotonic() - start:.0f} s', flush=True)

    def _announce(self, due: list[str]) -> None:
        print(f'Setting up {self.venv} with the {self.stack} stack, once.')
        if 'torch' in due and self.has_gpu:
            print('  torch: a download of about 3 GB, with CUDA.')
        elif 'torch' in due:
            print(
                '  torch: a download of 0.2 GB (CPU build) to 3 GB (with CUDA); your '
                'package index decides,\n  which pip settings such as '
                'PIP_EXTRA_INDEX_URL choose.'
            )
        if 'stack' in due:
            minutes = 6 if _is_gcc(find_compiler()) else 20  # as measured on one core
            minutes = (minutes + 48 * self.has_gpu) / (os.cpu_count() or 1)
            print(
                f'  mmcv: compiled from source, about {max(minutes, 1):.0f} minutes '
                f'here ({os.cpu_count()} cores); pip caches the result.'
            )
        print(f'  Output of pip: {self.log}', flush=True)

    def _make_venv(self) -> None:
        self._run(sys.executable, '-m', 'venv', self.venv)

    def _install_torch(self) -> None:
        self._pip('torch', '-r', REQUIREMENTS / 'build.txt')

    def _install_stack(self) -> None:
        # By default, torch's build calls c++, which may not exist.
        compiler = find_compiler() or 'c++'
        environment = {
            'MMCV_WITH_OPS': '1',
            'MAX_JOBS': str(os.cpu_count() or 1),
            'CXX': compiler,
        }
        if sys.version_info >= (3, 13):
            path = [str(MMCV_BUILD), *filter(None, [os.environ.get('PYTHONPATH')])]
            environment['PYTHONPATH'] = os.pathsep.join(path)
        if self.has_gpu:
            self._check_nvcc()
            environment['FORCE_CUDA'] = '1'
        with self._fast_build(compiler) as flags:
            self._install_mmcv({**environment, 'CFLAGS': flags})

    def _install_mmcv(self, environment: dict) -> None:
        stack_file = REQUIREMENTS / f'{self.stack}.txt'
        self._pip('--no-build-isolation', '-r', stack_file, environment=environment)
        if not self._mmcv_works():
            # pip has cached a build for another torch, under the same version.
            pinned = re.search(
                rf'^{STACKS[self.stack]}==\S+', stack_file.read_text(), re.M
            )
            self._pip(
                *('--no-build-isolation', '--no-deps', '--no-cache-dir'),
                *('--force-reinstall', pinned[0]),
                environment=environment,
            )
            self._run(self.python, '-c', 'import mmcv.ops')

    @contextmanager
    def _fast_build(self, compiler: str) -> Iterator[str]:
        """Yield compiler flags that build mmcv in a fraction of the time.

        Each of mmcv's 77 files spends 10 s on torch's headers, which GCC can read
        precompiled. If a flag of the build differs from these, GCC reads them as text:
        slower, never wrong.
        """
        flags = shlex.split(os.environ.get('CFLAGS', ''))
        flags += ['-g0', '-O2', '-DNDEBUG', '-fwrapv', '-fPIC']
        header = self.stamps.absolute() / 'torch.hpp'
        try:
            if _is_gcc(compiler) and self._precompile(compiler, flags, header):
                flags += ['-include', str(header)]
            yield shlex.join(flags)
        finally:
            Path(f'{header}.gch').unlink(missing_ok=True)  # some 400 MB

    def _precompile(self, compiler: str, flags: list[str], header: Path) -> bool:
        """Precompile torch's headers beside ``header``; return whether it worked."""
        header.write_text('#include <torch/types.h>\n')
        abi, *includes = self._ask(
            'import sysconfig, torch\n'
            'from torch.utils.cpp_extension import include_paths\n'
            'print(int(torch.compiled_with_cxx11_abi()))\n'
            'print(*include_paths(), sysconfig.get_path("include"), sep="\\n")'
        ).splitlines()
        # The only flag of torch's build that its headers depend on.
        flags.append(f'-D_GLIBCXX_USE_CXX11_ABI={abi}')
        command = [*shlex.split(compiler), *flags, '-std=c++17', '-x', 'c++-header']
        for path in includes:
            command += ['-isystem', path]
        try:
            self._run(*command, header, '-o', f'{header}.gch')
        except SetupError:  # the log says why
            return False
        return True

    def _mmcv_works(self) -> bool:
        check = 'import mmcv.ops as ops'
        if self.has_gpu:
            check += '; assert ops.get_compiling_cuda_version() != "not available"'
        command = [self.python, '-c', check]
        return subprocess.run(command, capture_output=True).returncode == 0

    def _check_nvcc(self) -> None:
        wanted = self._ask('import torch; print(torch.version.cuda)').strip()
        if wanted == 'None':
            raise SetupError(
                'there is an NVIDIA GPU, but pip has chosen a CPU build of torch; undo '
                "the pip settings that select PyTorch's CPU builds, remove "
                f'{self.venv}, and try again'
            )
        said = subprocess.check_output([find_nvcc(), '--version'], text=True)
        found = re.search(r'release (\d+)\.', said)[1]
        if found != wanted.split('.')[0]:
            raise SetupError(
                f'torch is built for CUDA {wanted}, but nvcc is of CUDA {found}; '
                f'install the toolkit of CUDA {wanted} and set CUDA_HOME'
            )

    def _install_project(self) -> None:
        files = [REQUIREMENTS / name for name in PROJECT]
        self._pip(*(word for file in files for word in ('-r', file)))
        self._pip('--no-deps', '--no-build-isolation', '-e', ROOT)
        self._run(self.python, '-c', 'import focal_retinanet.models')

    def _ask(self, code: str) -> str:
        """Return what the environment's Python prints; its warnings go to the log."""
        return self._run(self.python, '-c', code, stdout=subprocess.PIPE)

    def _pip(self, *words: str | Path, environment: dict | None = None) -> None:
        constraints = REQUIREMENTS / 'constraints.txt'
        self._run(
            *(self.python, '-m', 'pip', 'install', '--disable-pip-version-check'),
            *('-c', constraints, *words),
            environment=environment,
        )

    def _run(
        self,
        *words: str | Path,
        environment: dict | None = None,
        stdout: int | None = None,
    ) -> str | None:
        """Run a command; its output goes to the log, or is returned by ``PIPE``."""
        command = [str(word) for word in words]
        with open(self.log, 'a') as log:
            log.write(f'$ {" ".join(command)}\n')
            log.flush()
            done = subprocess.run(
                command,
                stdout=log if stdout is None else stdout,
                stderr=log,
                text=True,
                env={**os.environ, **(environment or {})},
            )
        if done.returncode:
            tail = '\n'.join(self.log.read_text(errors='replace').splitlines()[-25:])
            raise SetupError(
                f'this failed:\n  {" ".join(command)}\n{tail}\n(the whole log: '
                f'{self.log}; the same make command continues from here)'
            )
        return done.stdout


if __name__ == '__main__':
    main()
