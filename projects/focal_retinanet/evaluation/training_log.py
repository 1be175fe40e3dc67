"""What mmengine logged while training, as arrays: losses, learning rate, AP, time."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.config import Config

from focal_retinanet.cli.errors import UserError

#: Where a work directory has its logs: a folder for the start and for each resume.
SCALARS = '*/vis_data/scalars.json'
#: Short names of COCO's metrics, as they end in the log.
METRICS = {
    'AP': 'bbox_mAP',
    'AP50': 'bbox_mAP_50',
    'AP75': 'bbox_mAP_75',
    'APs': 'bbox_mAP_s',
    'APm': 'bbox_mAP_m',
    'APl': 'bbox_mAP_l',
}
#: Of mmengine's LogProcessor, for a log without its config.
DEFAULT_WINDOW = 10
#: Not curves, but places on the x-axis.
_PLACES = {'epoch', 'iter', 'step'}


@dataclass(frozen=True)
class TrainingLog:
    """One training run: N logged iterations and M validations.

    Attributes:
        path: work directory, or file of scalars.
        iterations: (N,) int64, rising; how many were done.
        seconds: (N,) spent on training up to there, without validation; NaN where
            no time was logged.
        training: (N,) of each key; NaN in lines without it.
        validated: (M,) int64, rising; iterations after which was validated.
        validation: (M,) of each key; NaN in lines without it.
    """

    path: Path
    iterations: np.ndarray
    seconds: np.ndarray
    training: dict[str, np.ndarray]
    validated: np.ndarray
    validation: dict[str, np.ndarray]

    @property
    def diverged_at(self) -> int | None:
        """First iteration from which on the loss is not finite; None if it ends so.

        A loss that is not finite for a while, as with mixed precision, has not
        diverged.
        """
        finite = np.isfinite(self.training.get('loss', np.zeros(0)))
        if finite.size == 0 or finite[-1]:
            return None
        last = np.flatnonzero(finite)
        return int(self.iterations[last[-1] + 1 if last.size else 0])

    @property
    def keys(self) -> list[str]:
        """Keys that have a curve, as they are in the log."""
        return [*self.training, *self.validation]

    def find(self, key: str) -> str | None:
        """The log's own key: 'AP50' and 'bbox_mAP_50' are 'coco/bbox_mAP_50'."""
        if key in self.training or key in self.validation:
            return key
        name = METRICS.get(key, key)
        return next((k for k in self.validation if k.endswith('/' + name)), None)

    def curve(self, key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Iterations, seconds and values of a key, up to where the run diverged.

        Raises:
            KeyError: the log has no such key.
        """
        name = self.find(key)
        if name in self.training:
            iterations, values = self.iterations, self.training[name]
        elif name in self.validation:
            iterations, values = self.validated, self.validation[name]
        else:
            raise KeyError(key)
        if self.iterations.size:
            seconds = np.interp(iterations, self.iterations, self.seconds)
        else:
            seconds = np.full(len(iterations), np.nan)
        end = len(iterations)
        if self.diverged_at is not None:
            end = int(np.searchsorted(iterations, self.diverged_at))
        return iterations[:end], seconds[:end], values[:end]


@dataclass(frozen=True)
class ModelLogs:
    """A config, trained with one seed or several."""

    name: str
    logs: Sequence[TrainingLog]


def find_training_logs(
    paths: Iterable[str | Path],
) -> tuple[list[ModelLogs], list[str]]:
    """The logs of work directories, folders of seeds, and files of scalars.

    A folder with ``seed-*`` in it, as ``tools/sweep.py`` makes them, is one
    model with several seeds.

    Returns:
        The models in the order of the paths, and what was left out with why.

    Raises:
        FileNotFoundError: there is no such path.
        UserError: nothing is left.
    """
    models, places, left_out = [], [], []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f'there is no {path}')
        seeds = sorted(path.glob('seed-*'), key=lambda f: (len(f.name), f.name))
        logs = []
        for place in seeds or [path]:
            try:
                logs.append(read_training_log(place))
            except UserError as error:
                left_out.append(str(error))
        if logs:
            models.append(ModelLogs(path.resolve().name, logs))
            places.append(path)
    if not models:
        raise UserError('\n'.join(['nothing to plot', *left_out]))
    names = [model.name for model in models]
    return [
        ModelLogs(str(place), model.logs) if names.count(model.name) > 1 else model
        for model, place in zip(models, places, strict=True)
    ], left_out


def read_training_log(path: str | Path) -> TrainingLog:
    """Read a work directory's log, or a file of scalars.

    A resumed run's logs are joined: what a later one repeats, and what an
    abandoned one had beyond it, is dropped.

    Raises:
        UserError: there is no log, nothing in it, or something else.
    """
    path = Path(path)
    files = sorted(path.glob(SCALARS)) if path.is_dir() else [path]
    if not files:
        raise UserError(f'{path}: no log, which training writes to {SCALARS}')
    training: list[dict] = []
    validations: dict[int, dict] = {}
    for line in (line for file in files for line in _read_lines(file)):
        if 'loss' in line:
            _forget_from(line['step'], training, validations)
            training.append(line)
        elif any('/' in key for key in line):
            # By epochs its step is the epoch, which is never above the iteration;
            # by iterations it is at or after the last one that was logged.
            last = training[-1]['step'] if training else 0
            validations[max(line['step'], last)] = line
    if not training and not validations:
        raise UserError(
            f'{path}: its log is empty; training writes a line every '
            'default_hooks.logger.interval iterations'
        )
    iterations = np.array([line['step'] for line in training], dtype=np.int64)
    columns = _columns(training)
    times = columns.get('time', np.full(len(training), np.nan))
    return TrainingLog(
        path,
        iterations,
        seconds_of_training(iterations, times, _window(files[-1])),
        columns,
        np.array(list(validations), dtype=np.int64),
        _columns(validations.values()),
    )


def seconds_of_training(
    iterations: np.ndarray, times: np.ndarray, window: int
) -> np.ndarray:
    """Seconds from the start, from times per iteration averaged over a window.

    A logged time is the mean of the last `window` iterations. Where windows
    overlap, adding up times the distance would count a slow start several times;
    instead each window starts from the time known for its beginning. Iterations
    that no window covers took as long as those that the next one does.

    Args:
        iterations: (N,) rising.
        times: (N,) seconds per iteration.
        window: of the average, in iterations.

    Returns:
        (N,) seconds, rising; NaN if a time is.
    """
    if not np.isfinite(times).all():
        return np.full(len(times), np.nan)
    steps = np.concatenate([[0], iterations])
    clock = np.zeros(len(steps))
    for i in range(1, len(steps)):
        start = max(min(steps[i] - window, steps[i - 1]), 0)
        begun = np.interp(start, steps[:i], clock[:i])
        clock[i] = max(begun + times[i - 1] * (steps[i] - start), clock[i - 1])
    return clock[1:]


def _read_lines(file: Path) -> list[dict]:
    try:
        lines = file.read_text().splitlines()
    except ValueError as error:  # not UTF-8
        raise UserError(f'{file} is not a log: {error}') from error
    records = []
    for number, text in enumerate(lines, 1):
        try:
            record = json.loads(text)
        except ValueError as error:
            if number == len(lines):
                break  # killed while writing it, or just being written
            raise UserError(f'{file}, line {number}, is not JSON: {error}') from error
        if not isinstance(record, dict) or not isinstance(record.get('step'), int):
            raise UserError(
                f'{file}, line {number}, is not of a log: no whole number `step` in it'
            )
        records.append(record)
    return records


def _forget_from(step: int, training: list[dict], validations: dict[int, dict]) -> None:
    """Drop what was logged at an iteration and after it: it is done again."""
    while training and training[-1]['step'] >= step:
        training.pop()
    while validations and max(validations) >= step:
        del validations[max(validations)]


def _columns(lines: Iterable[dict]) -> dict[str, np.ndarray]:
    """Numbers by key, NaN where a line has none."""
    lines = list(lines)
    keys = [
        key
        for key in dict.fromkeys(key for line in lines for key in line)
        if key not in _PLACES
        and any(isinstance(line.get(key), int | float) for line in lines)
    ]
    return {
        key: np.array([_number(line.get(key)) for line in lines], dtype=np.float64)
        for key in keys
    }


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float('nan')


def _window(scalars: Path) -> int:
    """Over how many iterations the log's times are averaged, by its config."""
    config = scalars.parent / 'config.py'
    if not config.exists():
        return DEFAULT_WINDOW
    processor = Config.fromfile(config).get('log_processor') or {}
    return processor.get('window_size', DEFAULT_WINDOW)
