"""Compiles C++ kernels, once for a machine, and loads them.

Kernels are plain C functions behind ``ctypes``. They need no headers of torch, so
compiling takes a second or two. Libraries are cached in a folder of the user, by a hash
of the source, the compiler, its flags and the machine.
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

from focal_retinanet.ops.fast_paths.private_folders import (
    is_private_file,
    private_folders,
)

logger = logging.getLogger('focal_retinanet')

_FLAGS = ['-O3', '-std=c++17', '-shared', '-fPIC', '-fno-math-errno']
_FLAGS += ['-fno-trapping-math']  # lets the compiler vectorise conditionals
_THREADS = '-fopenmp'
# The part of OpenMP that vectorises loops and needs no library.
_ONE_THREAD = '-fopenmp-simd'
# The features of x86-64-v3 and v4 by name, because GCC before 11 and Clang before 12
# do not know these levels. Not -march=native, because machines may share a home.
_AVX2 = ['-mcx16', '-msahf', '-mpopcnt', '-msse3', '-mssse3', '-msse4.1', '-msse4.2']
_AVX2 += ['-mavx', '-mavx2', '-mbmi', '-mbmi2', '-mf16c', '-mfma', '-mlzcnt', '-mmovbe']
_AVX512 = [*_AVX2, '-mavx512f', '-mavx512bw', '-mavx512cd', '-mavx512dq', '-mavx512vl']
_INSTRUCTION_SETS = {'AVX2': _AVX2, 'AVX512': _AVX512}


# Reasons for missing kernels that were logged.
_said: set[str] = set()


class CompilationError(Exception):
    """A kernel cannot be compiled; the message says why."""


@functools.cache
def load(name: str, source: Path, *flags: str) -> ctypes.CDLL | None:
    """Return the compiled kernel.

    Args:
        name: Name of the kernel in messages and of the library's file.
        source: C++ file.
        flags: Flags for the compiler, besides those of all kernels.

    Returns:
        Library; None if the environment says ``FOCAL_RETINANET_NATIVE=0``, or if the
        kernel cannot be compiled. One warning gives the reason.
    """
    if os.environ.get('FOCAL_RETINANET_NATIVE') == '0':
        return None
    try:
        return ctypes.CDLL(str(_compile(name, source, flags)))
    except (CompilationError, OSError) as error:
        reason = str(error)
        if reason not in _said:  # kernels may share it
            _said.add(reason)
            logger.warning(
                'No compiled %s kernel, plain PyTorch takes its place and is slower: %s',
                name,
                reason,
            )
        return None


def _compile(name: str, source: Path, flags: tuple[str, ...]) -> Path:
    """Return the path of the library, compiled unless it is cached."""
    if sys.platform == 'win32':
        raise CompilationError('kernels are not compiled on Windows')
    compiler = _find_compiler()
    version = _run([*compiler, '--version'])
    folders = list(private_folders())
    # The compiler is only asked for its flags if there is something to compile.
    for optional_flags in (_wanted_flags, _accepted_flags):
        command = [*compiler, *_FLAGS, *flags, *optional_flags(*compiler)]
        key = '\n'.join([source.read_text(), version, *command, _describe_machine()])
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        for folder in folders:
            library = folder / f'{name}-{digest}.so'
            if is_private_file(library):
                return library
    return _build([*command, str(source)], f'{name}-{digest}.so')


def _build(command: list[str], file: str) -> Path:
    """Compile into the first folder that takes the file."""
    errors: list[Exception] = []
    for folder in private_folders(make=True):
        try:
            # Several processes may compile at once. Each writes its own file, and the
            # last one renamed stays.
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                logger.info('Compiling %s (once, a few seconds)', folder / file)
                output = Path(scratch) / file
                _run([*command, '-o', str(output)])
                output.chmod(0o700)
                output.replace(folder / file)
            return folder / file
        except (CompilationError, OSError) as error:
            errors.append(error)
    if errors:
        raise errors[0]
    raise CompilationError(
        'no folder for compiled code that only this user can write to; name one in '
        'XDG_CACHE_HOME'
    )


def _find_compiler() -> list[str]:
    if named := os.environ.get('CXX', '').strip():
        try:
            return shlex.split(named)  # may be a command with arguments
        except ValueError as error:
            raise CompilationError(f'CXX={named}: {error}') from error
    for name in ('c++', 'g++', 'clang++'):
        if found := shutil.which(name):
            return [found]
    raise CompilationError('no C++ compiler found; install g++ or name one in CXX')


def _wanted_flags(*compiler: str) -> list[str]:
    """Return flags that make kernels faster and leave their results the same."""
    flags = [_ONE_THREAD if sys.platform == 'darwin' else _THREADS]
    if platform.machine().lower() in ('x86_64', 'amd64'):
        capability = torch.backends.cpu.get_cpu_capability()
        flags += _INSTRUCTION_SETS.get(capability, [])
    return flags


@functools.cache
def _accepted_flags(*compiler: str) -> list[str]:
    """Return the wanted flags that this compiler accepts."""
    wanted = _wanted_flags()
    if _accepts(compiler, wanted) or not _accepts(compiler, []):
        return wanted
    threads, features = wanted[:1], wanted[1:]
    if not _accepts(compiler, threads):
        logger.warning(
            'Compiled kernels run on one thread: %s does not take %s',
            shlex.join(compiler),
            *threads,
        )
        threads = [_ONE_THREAD] if _accepts(compiler, [_ONE_THREAD]) else []
    if not _accepts(compiler, features):
        logger.warning(
            'Compiled kernels do without %s: %s does not take the flags',
            torch.backends.cpu.get_cpu_capability(),
            shlex.join(compiler),
        )
        features = []
    return [*threads, *features]


def _accepts(compiler: tuple[str, ...], flags: list[str]) -> bool:
    """Whether the compiler accepts these flags (takes some 0.05 s)."""
    with tempfile.TemporaryDirectory() as scratch:
        source, output = Path(scratch) / 'empty.cpp', Path(scratch) / 'empty.so'
        source.touch()
        try:
            _run([*compiler, *_FLAGS, *flags, str(source), '-o', str(output)])
        except CompilationError:
            return False
    return True


@functools.cache
def _describe_machine() -> str:
    """Return what compiled code depends on besides its source and compiler.

    This includes the features of the processor, so that ``CXX='g++ -march=native'`` in
    a home that several machines share compiles once per kind of machine.
    """
    parts = [platform.system(), platform.machine(), *platform.libc_ver()]
    info = Path('/proc/cpuinfo')
    if info.exists():
        with open(info, errors='replace') as lines:
            features = (x for x in lines if x.startswith(('flags', 'Features')))
            parts.append(next(features, ''))
    return '\n'.join(parts)


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors='replace',
            check=True,
            env={**os.environ, 'LC_ALL': 'C'},
        )
    except subprocess.CalledProcessError as error:
        last_lines = '\n'.join(error.stderr.strip().splitlines()[-5:])
        raise CompilationError(f'{shlex.join(command)}:\n{last_lines}') from error
    return done.stdout
