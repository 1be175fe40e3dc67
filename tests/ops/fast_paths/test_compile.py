"""Kernels are compiled once and cached. If they cannot be, one warning says why."""

import ctypes
import logging
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from focal_retinanet.ops.fast_paths import compile
from focal_retinanet.ops.focal_loss import native as focal_loss_native
from focal_retinanet.ops.matching import native as matching_native
from focal_retinanet.ops.nms import native as nms_native

SOURCE = 'extern "C" int answer() { return ANSWER; }'


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """A folder with the source of one kernel, and an empty cache."""
    (tmp_path / 'answer.cpp').write_text(SOURCE)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    (tmp_path / 'temporary').mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'temporary'))
    monkeypatch.delenv('FOCAL_RETINANET_NATIVE', raising=False)
    monkeypatch.setattr(compile, '_said', set())
    forget()
    yield tmp_path
    forget()


def load_answer(kernels, *flags):
    return compile.load('answer', kernels / 'answer.cpp', *flags)


def forget():
    """Forget what this process has compiled, as a new process would."""
    compile.load.cache_clear()
    compile._accepted_flags.cache_clear()


@pytest.fixture
def compiler(kernels):
    try:
        return compile._find_compiler()
    except compile.CompilationError as error:
        pytest.skip(str(error))


@pytest.fixture
def commands(monkeypatch):
    """Commands that compile a kernel, without those that test the compiler."""
    ran = []
    run = subprocess.run

    def record(command, **options):
        if any(word.endswith('answer.cpp') for word in command):
            ran.append(command)
        return run(command, **options)

    monkeypatch.setattr(compile.subprocess, 'run', record)
    return ran


def libraries(folder):
    return sorted((folder / 'cache' / 'focal_retinanet').iterdir())


@pytest.mark.usefixtures('compiler')
def test_kernel_is_compiled_once_for_all_processes(kernels, commands):
    assert load_answer(kernels, '-DANSWER=42').answer() == 42
    assert len(commands) == 1
    load_answer(kernels, '-DANSWER=42')
    forget()
    assert load_answer(kernels, '-DANSWER=42').answer() == 42
    assert len(commands) == 1
    assert len(libraries(kernels)) == 1  # nothing temporary is left
    assert not list((kernels / 'temporary').iterdir())


@pytest.mark.usefixtures('compiler')
def test_other_source_or_flags_are_another_library(kernels, commands):
    load_answer(kernels, '-DANSWER=42')
    assert load_answer(kernels, '-DANSWER=43').answer() == 43
    (kernels / 'answer.cpp').write_text(SOURCE.replace('ANSWER;', '44;'))
    forget()
    assert load_answer(kernels, '-DANSWER=42').answer() == 44
    assert len(commands) == len(libraries(kernels)) == 3


@pytest.mark.usefixtures('compiler')
def test_two_processes_may_compile_at_once(kernels):
    script = (
        'import pathlib, sys; from focal_retinanet.ops.fast_paths import compile;'
        f'source = pathlib.Path({str(kernels / "answer.cpp")!r});'
        'print("ready", flush=True); sys.stdin.readline();'
        'print(compile.load("answer", source, "-DANSWER=42").answer())'
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
    monkeypatch.setattr(compile.shutil, 'which', lambda name: None)
    return 'no C.. compiler found; install g.. or name one in CXX'


def missing_compiler(kernels, monkeypatch):
    monkeypatch.setenv('CXX', str(kernels / 'no-such-compiler'))
    return 'no-such-compiler'


def broken_compiler(kernels, monkeypatch):
    monkeypatch.setenv('CXX', 'false')  # a command that fails
    return 'false --version'


def source_with_an_error(kernels, monkeypatch):
    (kernels / 'answer.cpp').write_text('this is no C++')
    return '(?s)answer.cpp.*error'


def no_folder(kernels, monkeypatch):
    monkeypatch.setattr(compile, 'private_folders', lambda make=False: [])
    return 'no folder.*XDG_CACHE_HOME'


def unbalanced_quotes(kernels, monkeypatch):
    monkeypatch.setenv('CXX', 'g++ "-DX')
    return 'CXX=g.. "-DX: No closing quotation'


def on_windows(kernels, monkeypatch):
    monkeypatch.setattr(compile.sys, 'platform', 'win32')
    return 'not compiled on Windows'


def damaged_library(kernels, monkeypatch):
    library = compile._compile('answer', kernels / 'answer.cpp', ('-DANSWER=42',))
    library.write_bytes(b'cut off')
    return library.name


@pytest.mark.parametrize(
    'obstacle',
    [
        no_compiler,
        missing_compiler,
        broken_compiler,
        source_with_an_error,
        no_folder,
        unbalanced_quotes,
        on_windows,
        damaged_library,
    ],
)
def test_kernel_that_cannot_be_compiled_is_one_warning(
    obstacle, kernels, compiler, monkeypatch, caplog
):
    says = obstacle(kernels, monkeypatch)
    with caplog.at_level(logging.INFO, logger='focal_retinanet'):
        for _ in range(3):
            assert load_answer(kernels, '-DANSWER=42') is None
    warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
    # A compiler without OpenMP gives another warning.
    warnings = [r for r in warnings if 'run on one thread' not in r.message]
    assert len(warnings) == 1
    assert 'No compiled answer kernel, plain PyTorch' in warnings[0].message
    assert re.search(says, warnings[0].message)


def test_same_reason_is_logged_once_for_all_kernels(kernels, monkeypatch, caplog):
    no_compiler(kernels, monkeypatch)
    assert (
        load_answer(kernels)
        is compile.load('question', kernels / 'question.cpp')
        is None
    )
    assert len(caplog.records) == 1


def compiler_without(kernels, monkeypatch, *flags):
    """Install a compiler that does not know these flags."""
    monkeypatch.delenv('CXX', raising=False)
    (real,) = compile._find_compiler()
    script = kernels / 'compiler'
    script.write_text(
        '#!/bin/sh\nfor word; do\n'
        f'  case $word in {"|".join(flags)}) echo "unknown $word" >&2; exit 1;; esac\n'
        f'done\nexec {real} "$@"\n'
    )
    script.chmod(0o700)
    monkeypatch.setenv('CXX', str(script))


@pytest.mark.usefixtures('compiler')
@pytest.mark.parametrize('kept', [['-fopenmp-simd'], []])
def test_without_openmp_a_kernel_runs_on_one_thread(
    kept, kernels, monkeypatch, commands, caplog
):
    lacking = ['-fopenmp', *({'-fopenmp-simd'} - set(kept))]
    compiler_without(kernels, monkeypatch, *lacking)
    monkeypatch.setattr(compile.sys, 'platform', 'linux')
    assert load_answer(kernels, '-DANSWER=42').answer() == 42
    assert load_answer(kernels, '-DANSWER=43').answer() == 43
    assert [r.message for r in caplog.records] == [
        f'Compiled kernels run on one thread: {kernels}/compiler does not take -fopenmp'
    ]
    assert len(commands) == 2
    for command in commands:
        assert [x for x in command if x.startswith('-fopenmp')] == kept
    forget()
    assert load_answer(kernels, '-DANSWER=42').answer() == 42
    assert len(commands) == 2  # the library is found again


@pytest.mark.usefixtures('compiler')
def test_openmp_that_is_installed_later_is_used(kernels, monkeypatch, commands):
    monkeypatch.setattr(compile.sys, 'platform', 'linux')
    compiler_without(kernels, monkeypatch, '-fopenmp')
    load_answer(kernels, '-DANSWER=42')
    compiler_without(kernels, monkeypatch, '-no-such-flag')
    forget()
    load_answer(kernels, '-DANSWER=42')
    assert ['-fopenmp' in command for command in commands] == [False, True]


@pytest.mark.usefixtures('compiler')
@pytest.mark.parametrize('capability', ['AVX2', 'AVX512'])
def test_kernel_is_compiled_without_unknown_instruction_sets(
    capability, kernels, monkeypatch, commands, caplog
):
    monkeypatch.setattr(compile.platform, 'machine', lambda: 'x86_64')
    monkeypatch.setattr(compile.sys, 'platform', 'linux')
    monkeypatch.setattr(
        torch.backends.cpu, 'get_cpu_capability', lambda: capability, raising=False
    )
    compiler_without(kernels, monkeypatch, '-mfma')
    assert load_answer(kernels, '-DANSWER=42').answer() == 42
    assert not [word for word in commands[0] if word.startswith('-m')]
    assert '-fopenmp' in commands[0]
    assert len(caplog.records) == 1
    assert f'do without {capability}' in caplog.text


@pytest.mark.parametrize('level', ['v3', 'v4'])
def test_instruction_sets_are_those_of_the_level(level, kernels, compiler):
    """GCC defines the same macros for the level and for our flags."""
    capability = {'v3': 'AVX2', 'v4': 'AVX512'}[level]

    def macros(*flags):
        command = [*compiler, *flags, '-dM', '-E', '-x', 'c++', os.devnull]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f'this compiler does not know {flags}')
        # A level also defines k8, its generic processor.
        return {x for x in done.stdout.splitlines() if 'k8' not in x}

    assert macros(*compile._INSTRUCTION_SETS[capability]) == macros(
        f'-march=x86-64-{level}'
    )


@pytest.mark.usefixtures('compiler')
def test_code_of_another_machine_in_a_shared_home_is_not_used(
    kernels, monkeypatch, commands
):
    load_answer(kernels, '-DANSWER=42')
    monkeypatch.setattr(compile, '_describe_machine', lambda: 'another')
    forget()
    load_answer(kernels, '-DANSWER=42')
    assert len(commands) == len(libraries(kernels)) == 2


def test_machine_is_described_by_its_processor():
    described = compile._describe_machine()
    assert platform.machine() in described
    info = Path('/proc/cpuinfo')
    if not info.exists():
        pytest.skip('no /proc/cpuinfo')
    (features, *_) = re.findall(r'^(?:flags|Features).*', info.read_text(), re.M) or [
        ''
    ]
    assert features in described


@pytest.mark.usefixtures('compiler')
def test_other_capability_is_another_library(kernels, monkeypatch, commands):
    monkeypatch.setattr(compile.platform, 'machine', lambda: 'x86_64')
    for capability in ('DEFAULT', 'AVX2'):
        monkeypatch.setattr(
            torch.backends.cpu,
            'get_cpu_capability',
            lambda capability=capability: capability,
            raising=False,
        )
        forget()
        compile._compile('answer', kernels / 'answer.cpp', ('-DANSWER=42',))
    assert ['-mavx2' in command for command in commands] == [False, True]


@pytest.mark.usefixtures('compiler')
def test_full_disk_is_skipped(kernels, monkeypatch):
    def make(dir=None, temporary=tempfile.TemporaryDirectory):
        if dir and str(dir).startswith(str(kernels / 'cache')):
            raise OSError('Disk quota exceeded')
        return temporary(dir=dir)

    monkeypatch.setattr(compile.tempfile, 'TemporaryDirectory', make)
    assert load_answer(kernels, '-DANSWER=42').answer() == 42
    assert list((kernels / 'home' / '.cache' / 'focal_retinanet').glob('*.so'))


@pytest.mark.usefixtures('compiler')
def test_library_that_others_may_write_to_is_not_loaded(kernels, commands):
    library = compile._compile('answer', kernels / 'answer.cpp', ('-DANSWER=42',))
    library.write_bytes(b'of someone else')
    library.chmod(0o777)
    assert load_answer(kernels, '-DANSWER=42').answer() == 42
    assert library.stat().st_mode & 0o777 == 0o700
    assert len(commands) == 2


def test_kernels_can_be_switched_off(kernels, monkeypatch, commands, caplog):
    monkeypatch.setenv('FOCAL_RETINANET_NATIVE', '0')
    assert load_answer(kernels, '-DANSWER=42') is None
    assert not commands
    assert not caplog.records
    assert not (kernels / 'cache').exists()


@pytest.mark.usefixtures('compiler')
def test_compiler_may_be_a_command_with_arguments(kernels, monkeypatch):
    (compiler,) = compile._find_compiler()
    monkeypatch.setenv('CXX', f'{compiler} -DANSWER=7')
    assert load_answer(kernels).answer() == 7


@pytest.mark.parametrize('module', [focal_loss_native, matching_native, nms_native])
def test_kernels_of_the_package_compile_without_a_warning(module, kernels, compiler):
    source = Path(module.__file__).with_name('native.cpp')
    library = compile.load('kernel', source, '-Wall', '-Wextra', '-Werror')
    assert isinstance(library, ctypes.CDLL)


@pytest.mark.parametrize('module', [focal_loss_native, matching_native, nms_native])
def test_kernel_that_did_not_compile_is_not_available(module, monkeypatch):
    monkeypatch.setattr(compile, 'load', lambda *args: None)
    module._kernel.cache_clear()
    assert not module.is_available(torch.zeros(1, 4))
    module._kernel.cache_clear()
