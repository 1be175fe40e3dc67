"""A sweep performs each run once, even after failures and interruptions."""

import json
import shutil
import sys

import pytest

from focal_retinanet.cli.errors import UserError
from focal_retinanet.engine import sweep
from focal_retinanet.engine.sweep import execute, plan, slurm_command

# Replaces tools/train.py: records that it ran, and fails if the config says so.
TRAIN = """
import json, pathlib, sys
from mmengine.config import Config
config, folder = sys.argv[1], pathlib.Path(sys.argv[3])
assert sys.argv[2] == '--work-dir' and sys.argv[4] == '--resume'
cfg = Config.fromfile(config)
with open('ran.txt', 'a') as ran:
    print(folder.parent.name, cfg.randomness.seed, file=ran)
if cfg.gamma == 9 and not pathlib.Path('mended').exists():
    sys.exit('error: gamma is 9')
data = folder / '20260101_000000' / 'vis_data'
data.mkdir(parents=True)
loss = float('nan') if cfg.loss < 0 else cfg.loss
lines = [dict(loss=loss)] + ([{'coco/bbox_mAP': 0.25}] if cfg.gamma else [])
(data / 'scalars.json').write_text('\\n'.join(map(json.dumps, lines)))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'train.py').write_text(TRAIN)
    (tmp_path / 'base.py').write_text(
        'gamma = 2\nloss = 1.0\nothers = i = 0\nrandomness = dict(seed=7)\n'
        'env_cfg = dict()\n'
    )
    (tmp_path / 'table.py').write_text(
        "base = 'base.py'\n"
        "rows = {'a': dict(gamma=1), 'b': dict(gamma=9), 'c': dict(gamma=2)}\n"
    )
    return tmp_path


def run(runs, jobs=1):
    lines = []
    outcomes = execute(runs, [sys.executable, 'train.py'], jobs, lines.append)
    return outcomes, lines


def ran(folder):
    file = folder / 'ran.txt'
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


@pytest.mark.parametrize('jobs', [1, 3])
def test_seeds_come_one_after_the_other_and_failures_are_reported(folder, jobs):
    runs, same = plan(['table.py'], [0, 1], 'out')
    assert same == {}
    outcomes, lines = run(runs, jobs)
    expected = [f'table_{row} {seed}' for seed in (0, 1) for row in 'abc']
    assert (ran(folder) if jobs == 1 else sorted(ran(folder))) == (
        expected if jobs == 1 else sorted(expected)
    )
    failed = [line for line in lines if 'FAILED' in line]
    assert len(outcomes) == 6
    assert len(failed) == 2
    assert 'error: gamma is 9' in failed[0]
    assert 'out/table_b/seed-0/output.txt' in '\n'.join(failed)
    assert sum('AP 0.250' in line for line in lines) == 4
    assert lines[-1].startswith('[6/6]')
    assert 'eta 0:00:00' in lines[-1]


def test_the_same_command_repeats_only_what_has_not_ended(folder):
    run(plan(['table.py'], [0], 'out')[0])
    ran(folder)
    (folder / 'mended').touch()
    _, lines = run(plan(['table.py'], [0, 1], 'out')[0])
    assert ran(folder) == ['table_b 0', 'table_a 1', 'table_b 1', 'table_c 1']
    assert lines[0] == '2 of 6 runs were done before'


def test_another_config_in_the_same_folder_is_refused(folder):
    run(plan(['table.py:a'], [0], 'out')[0])
    ran(folder)
    changed, _ = plan(['table.py:a'], [0], 'out', cfg_options={'loss': 2.0})
    with pytest.raises(UserError, match=r'out/table_a/seed-0.*--work-dir'):
        run(changed)
    assert ran(folder) == []
    # The same folder by its absolute path holds the same run.
    elsewhere, _ = plan(['table.py:a'], [0], folder / 'out')
    assert elsewhere[0].is_done()


def test_a_run_that_stopped_is_not_resumed_with_another_config(folder):
    run(plan(['table.py:b'], [0], 'out')[0])  # fails
    changed, _ = plan(['table.py:b'], [0], 'out', cfg_options={'loss': 2.0})
    assert not changed[0].is_done()  # nothing to resume
    (changed[0].folder / 'last_checkpoint').write_text('epoch_1.pth')
    with pytest.raises(UserError, match=r'out/table_b/seed-0.*another config'):
        run(changed)
    same, _ = plan(['table.py:b'], [0], 'out')
    assert not same[0].is_done()


def test_a_seed_is_run_once(folder):
    with pytest.raises(UserError, match='--seeds has 1 twice'):
        plan(['base.py'], [1, 0, 1], 'out')


def test_rows_that_are_the_same_are_run_once(folder):
    runs, same = plan(['base.py', 'table.py'], [0, 1], 'out')
    assert same == {'table_c': 'base'}
    assert [(r.name, r.seed) for r in runs[:3]] == [
        ('base', 0),
        ('table_a', 0),
        ('table_b', 0),
    ]
    with pytest.raises(UserError, match='table_a'):
        plan(['table.py', 'table.py:a'], [0], 'out')


def test_what_went_wrong_in_training_is_said(folder):
    items = ['base.py']
    _, lines = run(plan(items, [0], 'nan', cfg_options={'loss': -1.0})[0])
    assert 'diverged (loss nan)' in lines[-1]
    _, lines = run(plan(items, [0], 'empty', cfg_options={'gamma': 0})[0])
    assert 'no detections' in lines[-1]


@pytest.mark.parametrize(
    ('options', 'says'),
    [
        ({'gama': 1}, 'no one reads gama'),
        ({'randomness.sed': 1}, r'mean randomness\.seed'),
        ({'randomness.seed': 1}, r'randomness\.seed by --seeds'),
        ({'work_dir': 'x'}, 'work_dir by --work-dir'),
        ({'data_from': 'x'}, 'data_from by --base'),
    ],
)
def test_options_that_would_not_be_read_are_refused(folder, options, says):
    with pytest.raises(UserError, match=says):
        plan(['table.py'], [0], 'out', cfg_options=options)


def test_config_of_a_run_is_complete(folder):
    (only, _), _ = plan(
        ['table.py:a'],
        [3, 4],
        'out',
        base='base.py',
        cfg_options={'env_cfg.cudnn_benchmark': True},
    )
    run([only])
    cfg = sweep.Config.fromfile(only.config_file)
    assert (cfg.gamma, cfg.randomness.seed, cfg.env_cfg.cudnn_benchmark) == (1, 3, True)
    mark = json.loads((only.folder / sweep.DONE).read_text())
    assert (mark['name'], mark['seed']) == ('table_a', 3)


# Replaces tools/train.py: ends after the number of other runs that the config names,
# and records its GPU and cores.
WHERE = """
import os, pathlib, sys, time
from mmengine.config import Config
wanted, ran = Config.fromfile(sys.argv[1]).others, pathlib.Path('ran.txt')
end = time.monotonic() + 100
while time.monotonic() < end and wanted > (
    len(ran.read_text().splitlines()) if ran.exists() else 0
):
    time.sleep(0.05)
gpu = os.environ.get('CUDA_VISIBLE_DEVICES')
with open(ran, 'a') as file:
    print(gpu, os.environ.get('OMP_NUM_THREADS'), wanted, sep=';', file=file)
"""


@pytest.fixture
def train_on(folder, monkeypatch):
    """Return a function that trains with some jobs and GPUs, and says where each ran."""
    (folder / 'train.py').write_text(WHERE)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)

    def train_on(others, jobs, gpus, visible=None, **options):
        monkeypatch.setattr(sweep.torch.cuda, 'device_count', lambda: gpus)
        monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
        if visible is not None:
            monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
        rows = {f'row{i}': dict(others=n, i=i) for i, n in enumerate(others)}
        (folder / 'table.py').write_text(f"base = 'base.py'\nrows = {rows}\n")
        runs, _ = plan(['table.py'], [0], 'out')
        train = [sys.executable, 'train.py']
        outcomes = execute(runs, train, jobs, lambda line: None, **options)
        assert not [outcome.error for outcome in outcomes if outcome.error]
        return [line.split(';') for line in ran(folder)]

    return train_on


def test_no_two_runs_share_a_gpu_while_another_idles(train_on):
    # The first keeps its GPU; the others take turns on the second GPU.
    lines = train_on([4, 0, 0, 0, 0], jobs=2, gpus=2)
    *short, long = [line[0] for line in lines]
    assert sorted({*short, long}) == ['0', '1']
    assert long not in short


def test_the_gpu_with_the_fewest_runs_is_next():
    gpus = sweep._Gpus(['0', '1'])
    with gpus.take() as first, gpus.take() as second, gpus.take() as third:
        assert sorted([first, second]) == ['0', '1']
        with gpus.take() as fourth:
            assert sorted([third, fourth]) == ['0', '1']
        with gpus.take() as fifth:
            assert fifth == fourth
    with sweep._Gpus([]).take() as none:
        assert none is None


@pytest.mark.parametrize(
    ('visible', 'expected'),
    [
        ('5, GPU-8932f937', ['5', 'GPU-8932f937']),  # a given list is divided
        ('2', ['2', '2']),
        ('3,-1,4', ['3', '3']),
        ('', ['', '']),  # none, though the machine has some
        (None, ['0', '1']),
    ],
)
def test_jobs_divide_the_visible_gpus(train_on, visible, expected):
    # The first continues until the second has ended.
    lines = train_on([1, 0], jobs=2, gpus=4, visible=visible)
    assert sorted(line[0] for line in lines) == expected


def test_one_job_and_jobs_of_other_machines_take_what_they_find(train_on):
    for options in (dict(jobs=1), dict(jobs=2, is_local=False)):
        for line in train_on([0], gpus=4, visible='5,6', **options):
            assert line[:2] == ['5,6', 'None']
        shutil.rmtree('out')


def test_jobs_share_the_cores(monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    assert int(sweep._environment(1000, None)['OMP_NUM_THREADS']) == 1
    monkeypatch.setenv('OMP_NUM_THREADS', '7')
    assert sweep._environment(1000, None)['OMP_NUM_THREADS'] == '7'


def test_slurm_gets_the_arguments_of_mmdets_script(monkeypatch):
    monkeypatch.setenv('SRUN_ARGS', '--time=1:00 --comment="two words"')
    assert slurm_command('gpu', 'job', 16, 8, 5) == [
        'srun',
        '-p',
        'gpu',
        '--job-name=job',
        '--gres=gpu:8',
        '--ntasks=16',
        '--ntasks-per-node=8',
        '--cpus-per-task=5',
        '--kill-on-bad-exit=1',
        '--time=1:00',
        '--comment=two words',
    ]
