"""Kernels are compiled once and kept; where they can not be, it is said once."""

import ctypes
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from focal_retinanet.ops import focal_loss_native, matching_native, native, nms_native

SOURCE = 'extern "C" int answer() { return ANSWER; }'


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """A folder with the source of one kernel, and an empty cache."""
    sources = tmp_path / 'csrc'
    sources.mkdir()
    (sources / 'answer.cpp').write_text(SOURCE)
    monkeypatch.setattr(native, '_SOURCES', sources)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.delenv('FOCAL_RETINANET_NATIVE', raising=False)
    native.load.cache_clear()
    yield tmp_path
    native.load.cache_clear()


@pytest.fixture
def compiler(kernels):
    try:
        native._find_compiler()
    except native.CompilationError as error:
        pytest.skip(str(error))


@pytest.fixture
def commands(monkeypatch):
    """What is run, leaving out the questions for the compiler's version."""
    ran = []
    run = subprocess.run

    def record(command, **options):
        if '--version' not in command:
            ran.append(command)
        return run(command, **options)

    monkeypatch.setattr(native.subprocess, 'run', record)
    return ran


def libraries(folder):
    return sorted((folder / 'cache' / 'focal_retinanet').iterdir())


@pytest.mark.usefixtures('compiler')
def test_is_compiled_once_for_all_processes(kernels, commands):
    assert native.load('answer', '-DANSWER=42').answer() == 42
    assert len(commands) == 1
    native.load('answer', '-DANSWER=42')
    native.load.cache_clear()  # as a new process has it
    assert native.load('answer', '-DANSWER=42').answer() == 42
    assert len(commands) == 1
    assert len(libraries(kernels)) == 1  # nothing temporary is left


@pytest.mark.usefixtures('compiler')
def test_other_source_or_flags_are_another_library(kernels, commands):
    native.load('answer', '-DANSWER=42')
    assert native.load('answer', '-DANSWER=43').answer() == 43
    (kernels / 'csrc' / 'answer.cpp').write_text(SOURCE.replace('ANSWER;', '44;'))
    native.load.cache_clear()
    assert native.load('answer', '-DANSWER=42').answer() == 44
    assert len(commands) == len(libraries(kernels)) == 3


@pytest.mark.usefixtures('compiler')
def test_two_processes_may_compile_at_once(kernels):
    script = (
        'import pathlib, sys; from focal_retinanet.ops import native;'
        f'native._SOURCES = pathlib.Path({str(kernels / "csrc")!r});'
        'print("ready", flush=True); sys.stdin.readline();'
        'print(native.load("answer", "-DANSWER=42").answer())'
    )
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == 'ready\n'
    for process in processes:
        process.stdin.write('go\n')
        process.stdin.flush()
    for process in processes:
        assert process.communicate(timeout=60)[0] == '42\n'
    assert len(libraries(kernels)) == 1


def no_compiler(kernels, monkeypatch):
    monkeypatch.delenv('CXX', raising=False)
    monkeypatch.setattr(native.shutil, 'which', lambda name: None)
    return 'no C.. compiler found; install g.. or name one in CXX'


def missing_compiler(kernels, monkeypatch):
    monkeypatch.setenv('CXX', str(kernels / 'no-such-compiler'))
    return 'no-such-compiler'


def broken_compiler(kernels, monkeypatch):
    monkeypatch.setenv('CXX', 'false')  # a command that fails
    return 'false --version'


def source_with_an_error(kernels, monkeypatch):
    (kernels / 'csrc' / 'answer.cpp').write_text('this is no C++')
    return '(?s)answer.cpp.*error'


def cache_that_is_a_file(kernels, monkeypatch):
    (kernels / 'cache').touch()
    return 'cache'


def no_home(kernels, monkeypatch):
    def home():
        raise RuntimeError('Could not determine home directory.')

    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setattr(native.Path, 'home', home)
    return 'Could not determine home'


def damaged_library(kernels, monkeypatch):
    library = native._compile('answer', ('-DANSWER=42',))
    library.write_bytes(b'cut off')
    return library.name


@pytest.mark.parametrize(
    'obstacle',
    [
        no_compiler,
        missing_compiler,
        broken_compiler,
        source_with_an_error,
        cache_that_is_a_file,
        no_home,
        damaged_library,
    ],
)
def test_what_can_not_be_compiled_is_one_warning(
    obstacle, kernels, compiler, monkeypatch, caplog
):
    says = obstacle(kernels, monkeypatch)
    with caplog.at_level(logging.INFO, logger='focal_retinanet'):
        for _ in range(3):
            assert native.load('answer', '-DANSWER=42') is None
    warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert 'No compiled answer kernel, plain PyTorch' in warnings[0].message
    assert re.search(says, warnings[0].message)


def test_can_be_switched_off(kernels, monkeypatch, commands, caplog):
    monkeypatch.setenv('FOCAL_RETINANET_NATIVE', '0')
    assert native.load('answer', '-DANSWER=42') is None
    assert not commands
    assert not caplog.records
    assert not (kernels / 'cache').exists()


@pytest.mark.usefixtures('compiler')
def test_compiler_may_be_a_command_with_arguments(kernels, monkeypatch):
    (compiler,) = native._find_compiler()
    monkeypatch.setenv('CXX', f'{compiler} -DANSWER=7')
    assert native.load('answer').answer() == 7


@pytest.mark.parametrize('name', ['focal_loss', 'matching', 'nms'])
def test_kernels_of_the_package_compile_without_a_warning(
    name, kernels, compiler, monkeypatch
):
    sources = Path(focal_loss_native.__file__).parent / 'csrc'
    monkeypatch.setattr(native, '_SOURCES', sources)
    library = native.load(name, '-Wall', '-Wextra', '-Werror')
    assert isinstance(library, ctypes.CDLL)


@pytest.mark.parametrize('module', [focal_loss_native, matching_native, nms_native])
def test_without_a_kernel_its_callers_are_told_so(module, monkeypatch):
    monkeypatch.setattr(native, 'load', lambda *args: None)
    module._kernel.cache_clear()
    assert not module.is_available(torch.zeros(1, 4))
    module._kernel.cache_clear()
