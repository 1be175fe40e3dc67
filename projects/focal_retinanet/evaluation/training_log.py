"""Training logs of mmengine as arrays: losses, learning rate, AP and time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.config import Config

from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.work_dirs import SCALARS, read_scalars, read_work_dirs

#: Short names of COCO's metrics, and how their keys end in the log.
METRICS = {
    'AP': 'bbox_mAP',
    'AP50': 'bbox_mAP_50',
    'AP75': 'bbox_mAP_75',
    'APs': 'bbox_mAP_s',
    'APm': 'bbox_mAP_m',
    'APl': 'bbox_mAP_l',
}
#: mmengine's default window, for a log without its config.
DEFAULT_WINDOW = 10
#: Keys that are places on the x-axis instead of curves.
_PLACES = {'epoch', 'iter', 'step'}


@dataclass(frozen=True)
class TrainingLog:
    """One training run: N logged iterations and M validations.

    Attributes:
        path: Work directory, or file of scalars.
        iterations: (N,) int64, rising; iterations that are done at each line.
        seconds: (N,) seconds of training up to there, without validation; NaN if no
            time is logged.
        training: (N,) values of each key; NaN in lines without it.
        validated: (M,) int64, rising; iterations that are done at each validation.
        validation: (M,) values of each key; NaN in lines without it.
        learning_rate: The optimizer's, without the schedule; None if unknown.
    """

    path: Path
    iterations: np.ndarray
    seconds: np.ndarray
    training: dict[str, np.ndarray]
    validated: np.ndarray
    validation: dict[str, np.ndarray]
    learning_rate: float | None = None

    @property
    def diverged_at(self) -> int | None:
        """First iteration after the last finite loss; None if the loss ends finite.

        A loss that recovers, as under mixed precision, has not diverged.
        """
        finite = np.isfinite(self.training.get('loss', np.zeros(0)))
        if finite.size == 0 or finite[-1]:
            return None
        last = np.flatnonzero(finite)
        return int(self.iterations[last[-1] + 1 if last.size else 0])

    @property
    def keys(self) -> list[str]:
        """Keys of the log that have a curve."""
        return [*self.training, *self.validation]

    def find(self, key: str) -> str | None:
        """Return the log's own key: 'AP50' and 'bbox_mAP_50' are 'coco/bbox_mAP_50'."""
        if key in self.training or key in self.validation:
            return key
        name = METRICS.get(key, key)
        return next((k for k in self.validation if k.endswith('/' + name)), None)

    def curve(self, key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return iterations, seconds and values of a key, up to a divergence.

        Raises:
            KeyError: The log has no such key.
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
            # The last epoch ends after its last line, and takes as long as the others.
            later = np.maximum(iterations - self.iterations[-1], 0)
            seconds += later * self.seconds[-1] / self.iterations[-1]
        else:
            seconds = np.full(len(iterations), np.nan)
        end = len(iterations)
        if self.diverged_at is not None:
            end = int(np.searchsorted(iterations, self.diverged_at))
        return iterations[:end], seconds[:end], values[:end]


@dataclass(frozen=True)
class ModelLogs:
    """The logs of a config that is trained with one seed or several."""

    name: str
    logs: Sequence[TrainingLog]


def find_training_logs(
    paths: Sequence[str | Path],
) -> tuple[list[ModelLogs], list[str]]:
    """Read the logs of work directories, folders of seeds and files of scalars.

    Args:
        paths: See :func:`~focal_retinanet.evaluation.work_dirs.read_work_dirs`.

    Returns:
        The models in the order of the paths, and why others are left out.

    Raises:
        FileNotFoundError: There is no such path.
        UserError: Nothing is left.
    """
    skip = (UserError,)
    found, left_out = read_work_dirs(paths, read_training_log, skip, 'nothing to plot')
    return [ModelLogs(name, logs) for name, logs in found], left_out


def read_training_log(path: str | Path) -> TrainingLog:
    """Read the log of a work directory, or a file of scalars.

    The logs of a resumed run are joined. Where a later log repeats iterations of an
    earlier one, the later log counts.

    Raises:
        UserError: The log is missing, empty, or no log.
    """
    path = Path(path)
    files = sorted(path.glob(SCALARS)) if path.is_dir() else [path]
    if not files:
        raise UserError(f'{path}: no log, which training writes to {SCALARS}')
    training: list[dict] = []
    validations: dict[int, dict] = {}
    for line in (line for file in files for line in read_scalars(file)):
        if 'loss' in line:
            _forget_from(line['step'], training, validations)
            training.append(line)
        elif any('/' in key for key in line):
            # In a loop by iterations the step is at or after the last logged one. In a
            # loop by epochs it is the epoch, which is never above the iteration.
            last = training[-1]['step'] if training else 0
            validations[max(line['step'], last)] = line
    if not training and not validations:
        raise UserError(
            f'{path}: its log is empty; training writes a line every '
            'default_hooks.logger.interval iterations'
        )
    validations = _at_ends_of_epochs(training, validations)
    config = _config_of(files[-1])
    iterations = np.array([line['step'] for line in training], dtype=np.int64)
    columns = _columns(training)
    times = columns.get('time', np.full(len(training), np.nan))
    return TrainingLog(
        path,
        iterations,
        seconds_of_training(iterations, times, _window(config)),
        columns,
        np.array(list(validations), dtype=np.int64),
        _columns(validations.values()),
        _learning_rate(config),
    )


def seconds_of_training(
    iterations: np.ndarray, times: np.ndarray, window: int
) -> np.ndarray:
    """Return the seconds since the start, from windowed means of the iteration time.

    A logged time is the mean of the last `window` iterations. Where windows overlap,
    the sum of times by distances would count a slow start several times. So each
    window starts from the time that is known for its beginning. Iterations that no
    window covers take as long as those of the next window.

    Args:
        iterations: (N,) rising.
        times: (N,) seconds per iteration.
        window: Length of the window in iterations.

    Returns:
        (N,) seconds, rising; all NaN if one time is.
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


def _forget_from(step: int, training: list[dict], validations: dict[int, dict]) -> None:
    """Drop the lines from an iteration on, which the run does again."""
    while training and training[-1]['step'] >= step:
        training.pop()
    while validations and max(validations) >= step:
        del validations[max(validations)]


def _at_ends_of_epochs(
    training: Sequence[dict], validations: dict[int, dict]
) -> dict[int, dict]:
    """Move the validations of a loop by epochs to the last iterations of their epochs.

    mmengine logs an epoch every `interval` iterations of it, and not its end. They stay
    at the last logged iterations if fewer than two epochs are logged, or if the length
    of the epochs changes.
    """
    first: dict[int, int] = {}
    for line in training:
        first.setdefault(line.get('epoch'), line['step'])
    lengths = {
        first[epoch] - first[epoch - 1]
        for epoch in first
        if isinstance(epoch, int) and epoch - 1 in first
    }
    if len(lengths) != 1:
        return validations
    (length,) = lengths
    return {max(line['step'] * length, at): line for at, line in validations.items()}


def _columns(lines: Iterable[dict]) -> dict[str, np.ndarray]:
    """Numbers by key, NaN in lines without the key."""
    lines = list(lines)
    columns = {}
    for key in dict.fromkeys(key for line in lines for key in line):
        values = [line.get(key) for line in lines]
        is_number = [isinstance(value, int | float) for value in values]
        if key not in _PLACES and any(is_number):
            numbers = zip(values, is_number, strict=True)
            columns[key] = np.array([v if ok else np.nan for v, ok in numbers], float)
    return columns


def _config_of(scalars: Path) -> Config:
    """The config beside a log, empty if there is none."""
    config = scalars.parent / 'config.py'
    return Config.fromfile(config) if config.exists() else Config()


def _window(config: Config) -> int:
    """Window of the logged times in iterations."""
    processor = config.get('log_processor') or {}
    return processor.get('window_size', DEFAULT_WINDOW)


def _learning_rate(config: Config) -> float | None:
    optimizer = (config.get('optim_wrapper') or {}).get('optimizer') or {}
    return optimizer.get('lr')
