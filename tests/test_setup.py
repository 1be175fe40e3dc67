"""Set-up: early failures in one line, steps done once, stacks never mixed."""

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STEPS = ('_make_venv', '_install_torch', '_install_stack', '_install_project')


@pytest.fixture
def setup_env():
    """Import the script as a new module, so that a test may change it."""
    spec = importlib.util.spec_from_file_location(
        'setup_env', ROOT / 'tools' / 'setup_env.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def machine(setup_env, tmp_path, monkeypatch):
    """Simulate a machine that meets all requirements."""
    (tmp_path / 'Python.h').touch()
    monkeypatch.delenv('CXX', raising=False)
    monkeypatch.setattr(setup_env.sysconfig, 'get_path', lambda name: tmp_path)
    monkeypatch.setattr(setup_env.shutil, 'which', lambda name, path=None: name)
    give_disk(monkeypatch, setup_env, gigabytes=100)
    return tmp_path


def give_disk(monkeypatch, setup_env, gigabytes):
    usage = namedtuple('Usage', 'free')(gigabytes * 1e9)
    monkeypatch.setattr(setup_env.shutil, 'disk_usage', lambda path: usage)


@pytest.fixture
def steps_done(setup_env, tmp_path, monkeypatch):
    """Replace all steps, and collect the names of those that ran."""
    done = []
    requirements = tmp_path / 'requirements'
    shutil.copytree(ROOT / 'requirements', requirements)
    monkeypatch.setattr(setup_env, 'REQUIREMENTS', requirements)
    monkeypatch.setattr(setup_env, 'check_machine', lambda venv, has_gpu: None)
    for step in STEPS:
        monkeypatch.setattr(
            setup_env.Environment, step, lambda self, step=step: done.append(step)
        )
    return done


def make(setup_env, venv, stack=None):
    stack = setup_env.choose_stack(venv, stack)
    setup_env.Environment(venv, stack, has_gpu=False).make()


def test_complete_machine_passes(setup_env, machine):
    setup_env.check_machine(machine / 'venv', has_gpu=False)
    setup_env.check_machine(machine / 'venv', has_gpu=True)


@pytest.mark.parametrize('version', [(3, 9, 18), (3, 14, 0)])
def test_wrong_python_is_named(setup_env, machine, monkeypatch, version):
    monkeypatch.setattr(setup_env.sys, 'version_info', version)
    number = re.escape('.'.join(map(str, version)))
    with pytest.raises(setup_env.SetupError, match=f'this is {number}.*PYTHON='):
        setup_env.check_machine(machine / 'venv', has_gpu=False)


def test_missing_headers_are_named(setup_env, machine):
    (machine / 'Python.h').unlink()
    with pytest.raises(setup_env.SetupError, match=r'Python\.h is missing.*-dev'):
        setup_env.check_machine(machine / 'venv', has_gpu=False)


def test_missing_compiler_is_named(setup_env, machine, monkeypatch):
    monkeypatch.setattr(setup_env.shutil, 'which', lambda name, path=None: None)
    with pytest.raises(setup_env.SetupError, match=r'no C\+\+ compiler.*CXX'):
        setup_env.check_machine(machine / 'venv', has_gpu=False)


def test_compiler_that_is_named_has_to_be_there(setup_env, machine, monkeypatch):
    monkeypatch.setenv('CXX', 'nosuch')
    monkeypatch.setattr(
        setup_env.shutil, 'which', lambda name, path=None: name != 'nosuch' or None
    )
    with pytest.raises(setup_env.SetupError, match='CXX=nosuch is not there'):
        setup_env.check_machine(machine / 'venv', has_gpu=False)
    monkeypatch.setenv('CXX', 'ccache g++')
    assert setup_env.find_compiler() == 'ccache g++'


def test_missing_venv_module_is_named(setup_env, machine, monkeypatch):
    monkeypatch.setattr(
        setup_env.importlib.util, 'find_spec', lambda name: name != 'ensurepip' or None
    )
    with pytest.raises(setup_env.SetupError, match=r'cannot make environments.*-venv'):
        setup_env.check_machine(machine / 'venv', has_gpu=False)


def test_nvcc_is_the_one_of_cuda_home(setup_env, tmp_path, monkeypatch):
    nvcc = tmp_path / 'bin' / 'nvcc'
    nvcc.parent.mkdir()
    nvcc.touch(mode=0o755)
    monkeypatch.setenv('CUDA_HOME', str(tmp_path))
    assert setup_env.find_nvcc() == str(nvcc)


def test_folders_above_the_environment_need_not_exist(setup_env, tmp_path):
    free = shutil.disk_usage(tmp_path).free
    if free < 5e9:
        pytest.skip('this machine is short of disk')
    setup_env.check_machine(tmp_path / 'no' / 'such' / 'venv', has_gpu=False)


def test_gpu_without_nvcc_is_named(setup_env, machine, monkeypatch):
    monkeypatch.setattr(setup_env, 'find_nvcc', lambda: None)
    setup_env.check_machine(machine / 'venv', has_gpu=False)
    with pytest.raises(setup_env.SetupError, match=r'no nvcc.*CUDA toolkit'):
        setup_env.check_machine(machine / 'venv', has_gpu=True)


def test_gpu_needs_more_disk(setup_env, machine, monkeypatch):
    give_disk(monkeypatch, setup_env, gigabytes=8)
    setup_env.check_machine(machine / 'venv', has_gpu=False)
    with pytest.raises(setup_env.SetupError, match=r'8\.0 GB of disk are free'):
        setup_env.check_machine(machine / 'venv', has_gpu=True)


def test_second_run_does_nothing(setup_env, tmp_path, steps_done, capsys):
    make(setup_env, tmp_path / 'venv')
    assert steps_done == list(STEPS)
    steps_done.clear()
    capsys.readouterr()

    make(setup_env, tmp_path / 'venv')
    assert not steps_done
    assert not capsys.readouterr().out


def test_interrupted_setup_goes_on(setup_env, tmp_path, steps_done, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(setup_env.Environment, '_install_stack', interrupt)
        with pytest.raises(KeyboardInterrupt):
            make(setup_env, tmp_path / 'venv')
    assert steps_done == ['_make_venv', '_install_torch']

    make(setup_env, tmp_path / 'venv')
    assert steps_done == list(STEPS)


@pytest.mark.parametrize(
    ('file', 'redone'),
    [
        ('fast.txt', STEPS[3:]),
        ('tests.txt', STEPS[3:]),
        ('openmmlab.txt', STEPS[2:]),
        ('constraints.txt', STEPS[1:]),
        ('onedl.txt', ()),
    ],
)
def test_edited_requirements_redo_what_depends_on_them(
    setup_env, tmp_path, steps_done, file, redone
):
    make(setup_env, tmp_path / 'venv')
    steps_done.clear()
    with open(setup_env.REQUIREMENTS / file, 'a') as stream:
        stream.write('# edited\n')
    make(setup_env, tmp_path / 'venv')
    assert steps_done == list(redone)


@pytest.mark.parametrize(
    ('first', 'other'), [('openmmlab', 'onedl'), ('onedl', 'openmmlab')]
)
def test_stack_is_kept_and_never_mixed(setup_env, tmp_path, steps_done, first, other):
    venv = tmp_path / 'venv'
    make(setup_env, venv, first)
    assert setup_env.choose_stack(venv, None) == first
    assert setup_env.choose_stack(venv, first) == first
    with pytest.raises(
        setup_env.SetupError, match=f'has the {first}.*VENV=.venv-{other}'
    ):
        setup_env.choose_stack(venv, other)


def test_installed_stack_counts_without_its_record(setup_env, tmp_path):
    (tmp_path / '.setup').mkdir()
    assert setup_env.choose_stack(tmp_path, 'onedl') == 'onedl'
    packages = tmp_path / 'lib' / 'python3.11' / 'site-packages'
    (packages / 'onedl_mmcv-2.3.6.dist-info').mkdir(parents=True)
    assert setup_env.choose_stack(tmp_path, None) == 'onedl'
    with pytest.raises(setup_env.SetupError, match='has the onedl stack'):
        setup_env.choose_stack(tmp_path, 'openmmlab')


def test_foreign_environment_is_left_alone(setup_env, tmp_path):
    assert setup_env.choose_stack(tmp_path / 'new', None) == 'openmmlab'
    (tmp_path / 'pyvenv.cfg').touch()
    with pytest.raises(setup_env.SetupError, match='not made by this set-up'):
        setup_env.choose_stack(tmp_path, None)


def test_failed_command_shows_its_output_and_the_log(setup_env, tmp_path):
    environment = setup_env.Environment(tmp_path, 'openmmlab', has_gpu=False)
    environment.stamps.mkdir()
    with pytest.raises(setup_env.SetupError, match='no such operator') as error:
        environment._run(sys.executable, '-c', 'raise SystemExit("no such operator")')
    assert str(environment.log) in str(error.value)


@pytest.fixture
def building(setup_env, tmp_path, monkeypatch):
    """Return an environment that records its commands and fakes compiled files."""
    environment = setup_env.Environment(tmp_path / 'venv', 'openmmlab', has_gpu=False)
    environment.stamps.mkdir(parents=True)
    environment.commands = []

    def run(*words, environment_=environment, environment=None):
        environment_.commands.append([str(word) for word in words])
        if '-o' in words:
            Path(words[-1]).touch()

    monkeypatch.delenv('CFLAGS', raising=False)
    monkeypatch.setattr(environment, '_run', run)
    monkeypatch.setattr(environment, '_ask', lambda code: '1\n/torch/include\n')
    monkeypatch.setattr(setup_env, '_is_gcc', lambda compiler: compiler == 'g++')
    return environment


def test_torch_headers_are_precompiled_for_the_build_alone(building, monkeypatch):
    monkeypatch.setenv('CFLAGS', '-DMINE')
    with building._fast_build('g++') as flags:
        header = Path(flags.split(' -include ')[1])
        assert header.exists()
        assert header.with_name('torch.hpp.gch').exists()
    assert not header.with_name('torch.hpp.gch').exists()
    (command,) = building.commands
    # GCC reads the header only if the build has the same flags.
    assert (
        command[1 : command.index('-std=c++17')] == flags.split(' -include ')[0].split()
    )
    assert flags.startswith('-DMINE ')
    assert command[command.index('-isystem') + 1] == '/torch/include'


def test_build_without_a_precompiled_header_has_the_same_flags(building):
    with building._fast_build('g++') as flags:
        pass
    with building._fast_build('clang++') as plain:
        pass
    assert plain == flags.split(' -D_GLIBCXX')[0]
    assert len(building.commands) == 1


def test_header_that_does_not_compile_is_no_error(setup_env, building, monkeypatch):
    def fail(*words, **options):
        raise setup_env.SetupError('no space left')

    monkeypatch.setattr(building, '_run', fail)
    with building._fast_build('g++') as flags:
        assert '-include' not in flags


@pytest.mark.parametrize('error', [None, KeyboardInterrupt])
def test_precompiled_header_goes_whatever_happens(building, error):
    with contextlib.suppress(KeyboardInterrupt), building._fast_build('g++'):
        precompiled = building.stamps / 'torch.hpp.gch'
        assert precompiled.exists()
        if error:
            raise error
    assert not precompiled.exists()


def test_gcc_is_known_by_what_it_says(setup_env, tmp_path):
    compiler = tmp_path / 'c++'
    for says, is_gcc in (('Free Software Foundation', True), ('clang 14', False)):
        compiler.write_text(f'#!/bin/sh\necho "{says}"\n')
        compiler.chmod(0o755)
        assert setup_env._is_gcc(str(compiler)) == is_gcc
    assert not setup_env._is_gcc(str(tmp_path / 'missing'))
    assert not setup_env._is_gcc(None)


def test_warnings_of_what_is_asked_go_to_the_log(setup_env, tmp_path, capfd):
    environment = setup_env.Environment(tmp_path, 'openmmlab', has_gpu=False)
    environment.stamps.mkdir()
    environment.python = sys.executable
    said = environment._ask('import sys; print(1); sys.stderr.write("no numpy")')
    assert said == '1\n'
    assert capfd.readouterr() == ('', '')
    assert 'no numpy' in environment.log.read_text()
    with pytest.raises(setup_env.SetupError, match='no such module'):
        environment._ask('raise SystemExit("no such module")')


@pytest.mark.parametrize('version', [(3, 12, 1), (3, 13, 0)])
def test_mmcv_build_gets_the_former_exec_where_it_is_gone(
    setup_env, building, monkeypatch, version
):
    given = []
    monkeypatch.setattr(setup_env.sys, 'version_info', version)
    monkeypatch.setenv('PYTHONPATH', '/mine')
    monkeypatch.setattr(building, '_install_mmcv', given.append)
    building._install_stack()
    path = given[0].get('PYTHONPATH')
    expected = f'{ROOT}/tools/mmcv_build{os.pathsep}/mine'
    assert path == (expected if version >= (3, 13) else None)


def test_mmcv_setup_reads_its_version_with_the_former_exec():
    code = (
        'def get_version():\n'
        '    exec(compile("__version__ = 1 + one", "version.py", "exec"))\n'
        '    return locals()["__version__"]\n'
        'one = 1; scope = {}; exec("two = 2", scope); exec("three = 3")\n'
        'print(get_version(), scope["two"], three)'
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        env={**os.environ, 'PYTHONPATH': str(ROOT / 'tools' / 'mmcv_build')},
        capture_output=True,
        text=True,
    )
    assert done.stdout == '2 2 3\n', done.stderr


def test_compiler_for_newer_torch_asks_for_a_newer_standard(tmp_path):
    compiler = tmp_path / 'c++'
    compiler.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    compiler.chmod(0o755)
    said = subprocess.check_output(
        [ROOT / 'tools/mmcv_build/c++20', '-c', 'a b.cpp', '-std=c++17', '-O2'],
        env={**os.environ, 'PATH': f'{tmp_path}:{os.environ["PATH"]}'},
        text=True,
    )
    assert said == '-c|a b.cpp|-std=c++20|-O2|'


def test_installing_the_package_touches_no_stack(monkeypatch):
    import runpy

    import setuptools

    metadata = {}
    monkeypatch.setattr(setuptools, 'setup', metadata.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path('setup.py')

    assert metadata['name'] == 'focal-retinanet'
    # benchmarks/ and tests/ stay out.
    assert {name.split('.')[0] for name in metadata['packages']} == {'focal_retinanet'}
    assert metadata['python_requires'] == '>=3.10,<3.14'
    assert {'openmmlab', 'onedl'} <= set(metadata['extras_require'])
    for line in metadata['install_requires']:
        # A bare name accepts any installed version.
        assert re.fullmatch(r'[a-z0-9-]+', line)
        assert not re.match(r'(onedl-)?(mm|torch)', line)
