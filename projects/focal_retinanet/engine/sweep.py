"""Many training runs, one after another or side by side, each run once."""

import hashlib
import json
import math
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from threading import Lock

import torch
from mmengine.config import Config

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.ablation_table import (
    Table,
    is_table,
    load_config_or_row,
    split_row,
)
from focal_retinanet.config.cfg_options import merge_options
from focal_retinanet.config.data_from import KEY as DATA_FROM
from focal_retinanet.config.read_config import read_config
from focal_retinanet.engine.work_dir import LATEST

#: Written into a run's folder when it starts.
STARTED = 'started.json'
#: Written into a run's folder when it has ended well.
DONE = 'done.json'
#: What the run printed.
OUTPUT = 'output.txt'

_SET_ELSEWHERE = {
    'randomness.seed': '--seeds',
    'work_dir': '--work-dir',
    DATA_FROM: '--base',
}


@dataclass(frozen=True)
class SweepRun:
    """A config with a seed.

    Attributes:
        name: Name of the config, such as ``table1b_gamma-2.0``.
        seed: ``randomness.seed``.
        cfg: Whole config.
        folder: Work directory.
    """

    name: str
    seed: int
    cfg: Config
    folder: Path

    @property
    def config_file(self) -> Path:
        return self.folder / f'{self.name}.py'

    @property
    def key(self) -> str:
        """Hash of the config without its work directory."""
        cfg = self.cfg.to_dict()
        cfg.pop('work_dir', None)
        text = json.dumps(cfg, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def is_done(self) -> bool:
        """Return whether the run has ended well before.

        Raises:
            UserError: A run of another config has ended in this folder, or would be
                resumed.
        """
        is_resumed = (self.folder / LATEST).exists()
        for mark in (DONE, STARTED) if is_resumed else (DONE,):
            file = self.folder / mark
            if file.exists() and json.loads(file.read_text())['key'] != self.key:
                raise UserError(
                    f'{self.folder} holds a run of {self.name} with another config; '
                    'choose another --work-dir, or move that folder away'
                )
        return (self.folder / DONE).exists()


@dataclass(frozen=True)
class Outcome:
    """Outcome of a run.

    Attributes:
        run: The run.
        seconds: Duration of the run.
        error: What went wrong, or None.
        summary: Last results of the run in a few words.
    """

    run: SweepRun
    seconds: float
    error: str | None
    summary: str


def plan(
    items: Sequence[str],
    seeds: Sequence[int],
    work_dir: str | Path,
    base: str | None = None,
    cfg_options: dict | None = None,
) -> tuple[list[SweepRun], dict[str, str]]:
    """Return the runs of tables, rows and configs, ordered by seed.

    Args:
        items: Files of tables or configs, or ``TABLE.py:ROW``.
        seeds: Seeds of each of them.
        work_dir: Folder in which each run has its folder ``NAME/seed-N``.
        base: Config that takes the place of the tables' own, and of what a
            config's ``data_from`` names.
        cfg_options: Options of ``--cfg-options``.

    Returns:
        The runs, and by its name each row that repeats an earlier one, with the name
        of that one.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: There is no such row, two configs have one name, no one reads an
            option, another argument sets it, or a seed is asked for twice.
    """
    for key, argument in _SET_ELSEWHERE.items():
        if key in (cfg_options or {}):
            raise UserError(f'--cfg-options: a sweep sets {key} by {argument}')
    runs: list[SweepRun] = []
    same: dict[str, str] = {}
    configs = [pair for item in items for pair in _configs(item, base)]
    names = [name for name, _ in configs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f'{name} is asked for twice')
    for seed in seeds:
        if list(seeds).count(seed) > 1:
            raise UserError(f'--seeds has {seed} twice; each seed is one run')
    for seed in seeds:
        known: dict[str, str] = {}
        for name, config in configs:
            cfg = config.copy()
            merge_options(cfg, cfg_options)
            folder = Path(work_dir) / name / f'seed-{seed}'
            cfg.merge_from_dict({'randomness.seed': seed, 'work_dir': str(folder)})
            run = SweepRun(name, seed, cfg, folder)
            if run.key in known:
                same[name] = known[run.key]
                continue
            known[run.key] = name
            runs.append(run)
    return runs, same


def _configs(item: str, base: str | None) -> list[tuple[str, Config]]:
    """Return names and configs of a table's rows, of one row, or of a config file."""
    file, row = split_row(item)
    if row is None and not is_table(cfg := read_config(file)):
        data_from = base if DATA_FROM in cfg else None
        return [(Path(file).stem, load_config_or_row(file, data_from))]
    table = Table(file, base)
    configs = [table.load(row) for row in ([row] if row else table.rows)]
    return [(Path(cfg.filename).stem, cfg) for cfg in configs]


def execute(
    runs: Sequence[SweepRun],
    train: Sequence[str],
    jobs: int,
    report: Callable[[str], None] = print,
    is_local: bool = True,
) -> list[Outcome]:
    """Do the runs that are not done yet; one that fails does not stop the rest.

    Args:
        runs: Runs in the order in which they start.
        train: Command that trains; the config and options are added to it.
        jobs: Number of runs at a time.
        report: Function that is given a line for each run that ends.
        is_local: Whether the jobs share this machine's cores and GPUs; if not, the
            command runs them on other machines.

    Returns:
        The outcomes of those that were run.

    Raises:
        UserError: A folder holds a run of another config.
    """
    to_do = [run for run in runs if not run.is_done()]
    if len(to_do) < len(runs):
        report(f'{len(runs) - len(to_do)} of {len(runs)} runs were done before')
    outcomes: list[Outcome] = []
    start = time.monotonic()
    shares = jobs > 1 and is_local
    gpus = _Gpus(_visible_gpus() if shares else [])

    def execute_one(run: SweepRun) -> Outcome:
        with gpus.take() as gpu:
            environment = _environment(jobs if shares else 1, gpu)
            return _execute_one(run, train, environment)

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(execute_one, run) for run in to_do]
        try:
            for future in as_completed(futures):
                outcome = future.result()
                outcomes.append(outcome)
                elapsed = time.monotonic() - start
                left = elapsed / len(outcomes) * (len(to_do) - len(outcomes))
                report(
                    f'[{len(outcomes)}/{len(to_do)}] {outcome.run.name} '
                    f'seed {outcome.run.seed}: {outcome.error or outcome.summary}, '
                    f'{_duration(outcome.seconds)}, eta {_duration(left)}'
                )
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    return outcomes


def slurm_command(
    partition: str, job_name: str, gpus: int, gpus_per_node: int, cpus_per_task: int
) -> list[str]:
    """Return the ``srun`` of mmdet's ``slurm_train.sh``, with $SRUN_ARGS."""
    return [
        'srun',
        *['-p', partition],
        f'--job-name={job_name}',
        f'--gres=gpu:{min(gpus, gpus_per_node)}',
        f'--ntasks={gpus}',
        f'--ntasks-per-node={min(gpus, gpus_per_node)}',
        f'--cpus-per-task={cpus_per_task}',
        '--kill-on-bad-exit=1',
        *shlex.split(os.environ.get('SRUN_ARGS', '')),
    ]


def _execute_one(run: SweepRun, train: Sequence[str], environment: dict) -> Outcome:
    run.folder.mkdir(parents=True, exist_ok=True)
    mark = dict(key=run.key, name=run.name, seed=run.seed)
    (run.folder / STARTED).write_text(json.dumps(mark, indent=2) + '\n')
    run.cfg.dump(run.config_file)
    command = [*train, str(run.config_file), '--work-dir', str(run.folder), '--resume']
    start = time.monotonic()
    with (run.folder / OUTPUT).open('a') as output:
        code = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment
        ).returncode
    seconds = time.monotonic() - start
    if code:
        lines = (run.folder / OUTPUT).read_text().split('\n')
        last = next((line for line in reversed(lines) if line.strip()), '')
        error = f'FAILED with exit code {code} ({last.strip()[:200]}; see '
        return Outcome(run, seconds, f'{error}{run.folder / OUTPUT})', '')
    (run.folder / DONE).write_text(
        json.dumps({**mark, 'seconds': seconds}, indent=2) + '\n'
    )
    return Outcome(run, seconds, None, _summary(run.folder))


def _summary(folder: Path) -> str:
    """Return the AP from mmengine's scalars, or that the loss diverged."""
    files = sorted(folder.glob('*/vis_data/scalars.json'))
    lines = files[-1].read_text().splitlines() if files else []
    # A loss that is not a number is written as NaN, which json takes.
    scalars = [json.loads(line) for line in lines]
    ap = [line['coco/bbox_mAP'] for line in scalars if 'coco/bbox_mAP' in line]
    loss = [line['loss'] for line in scalars if 'loss' in line]
    if loss and not math.isfinite(loss[-1]):
        return f'diverged (loss {loss[-1]})'
    return f'AP {ap[-1]:.3f}' if ap else 'no detections'


class _Gpus:
    """GPUs to give to runs: no two share one while another has none.

    Args:
        names: Names of the GPUs, as in ``CUDA_VISIBLE_DEVICES``.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._runs = dict.fromkeys(names, 0)  # current runs of each
        self._lock = Lock()

    @contextmanager
    def take(self) -> Iterator[str | None]:
        """Yield the GPU with the fewest runs, or None without GPUs."""
        if not self._runs:
            yield None
            return
        with self._lock:
            name = min(self._runs, key=self._runs.__getitem__)
            self._runs[name] += 1
        try:
            yield name
        finally:
            with self._lock:
                self._runs[name] -= 1


def _visible_gpus() -> list[str]:
    """Return the GPUs of CUDA_VISIBLE_DEVICES, or all if it is not set."""
    listed = os.environ.get('CUDA_VISIBLE_DEVICES')
    if listed is None:
        return [str(number) for number in range(torch.cuda.device_count())]
    names = [name.strip() for name in listed.split(',')]
    # As CUDA reads it: what follows an invalid one does not count.
    return list(takewhile(lambda name: name not in ('', '-1'), names))


def _environment(jobs: int, gpu: str | None) -> dict[str, str]:
    """Return the environment of a run: its share of the cores, and its GPU."""
    environment = dict(os.environ)
    if jobs > 1:
        cores = len(os.sched_getaffinity(0)) if sys.platform == 'linux' else 0
        threads = max(1, (cores or os.cpu_count() or 1) // jobs)
        environment.setdefault('OMP_NUM_THREADS', str(threads))
    if gpu is not None:
        environment['CUDA_VISIBLE_DEVICES'] = gpu
    return environment


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{seconds:02}'
