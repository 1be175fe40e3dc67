"""Compiles the C++ kernels of ``csrc/``, once for a machine, and loads them.

They are plain C functions behind ``ctypes``: no headers of torch, so compiling
takes a second or two. The libraries are kept in the user's cache folder under
a name that holds the hash of the source, the compiler and its flags.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

logger = logging.getLogger('focal_retinanet')

_SOURCES = Path(__file__).parent / 'csrc'
_FLAGS = ['-O3', '-std=c++17', '-shared', '-fPIC', '-fno-math-errno']
_FLAGS += ['-fno-trapping-math']  # lets the compiler vectorise conditionals
if sys.platform != 'darwin':  # Apple's compiler has no OpenMP
    _FLAGS.append('-fopenmp')
# Named instruction sets, not the machine's own: a home folder may be shared by
# machines that differ.
_INSTRUCTION_SETS = {'AVX2': '-march=x86-64-v3', 'AVX512': '-march=x86-64-v4'}


class CompilationError(Exception):
    """A kernel can not be compiled here; says why."""


@functools.cache
def load(name: str, *flags: str) -> ctypes.CDLL | None:
    """The compiled ``csrc/{name}.cpp``.

    Args:
        name: of the source, without its ending.
        flags: for the compiler, besides those that all kernels have.

    Returns:
        The library, or None where the environment says
        ``FOCAL_RETINANET_NATIVE=0``, or where it can not be compiled, of which
        one warning tells.
    """
    if os.environ.get('FOCAL_RETINANET_NATIVE') == '0':
        return None
    try:
        return ctypes.CDLL(str(_compile(name, flags)))
    except (CompilationError, OSError, RuntimeError) as error:  # no home: RuntimeError
        logger.warning(
            'No compiled %s kernel, plain PyTorch takes its place and is slower: %s',
            name,
            error,
        )
        return None


def _compile(name: str, flags: tuple[str, ...]) -> Path:
    """Path of the library, compiled unless the cache has it."""
    source = _SOURCES / f'{name}.cpp'
    compiler = _find_compiler()
    flags = [*_FLAGS, *flags]
    if platform.machine().lower() in ('x86_64', 'amd64'):
        capability = torch.backends.cpu.get_cpu_capability()
        flags += filter(None, [_INSTRUCTION_SETS.get(capability)])

    version = _run([*compiler, '--version'])
    key = '\n'.join([source.read_text(), version, *compiler, *flags])
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    library = _cache_folder() / f'{name}-{digest}.so'
    if not library.exists():
        logger.info('Compiling the %s kernel (once, a few seconds)', name)
        # Several processes may compile at once: each writes a file of its own,
        # and the last to be renamed stays.
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            output = Path(folder) / library.name
            _run([*compiler, *flags, str(source), '-o', str(output)])
            output.replace(library)
    return library


def _find_compiler() -> list[str]:
    if named := os.environ.get('CXX'):
        return shlex.split(named)  # may be a command with arguments
    for name in ('c++', 'g++', 'clang++'):
        if found := shutil.which(name):
            return [found]
    raise CompilationError('no C++ compiler found; install g++ or name one in CXX')


def _cache_folder() -> Path:
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    folder = Path(base) / 'focal_retinanet'
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        last_lines = '\n'.join(error.stderr.strip().splitlines()[-5:])
        raise CompilationError(f'{shlex.join(command)}:\n{last_lines}') from error
    return done.stdout
