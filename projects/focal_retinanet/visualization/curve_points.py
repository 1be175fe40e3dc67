"""Points of training curves, each of one run or of several seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from focal_retinanet.evaluation.training_log import METRICS, ModelLogs, TrainingLog


@dataclass(frozen=True)
class Curve:
    """Curve of one run, or of several seeds; all arrays are (N,) and finite.

    Attributes:
        x: Iterations or seconds.
        y: Values; the mean of several seeds.
        low, high: Lowest and highest value of the seeds; None for one run.
        diverged: Whether the curve ends where the run diverged.
    """

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    diverged: bool = False


def curves_of(model: ModelLogs, key: str, x: str, smooth: int) -> list[Curve]:
    """Return one curve of a model's healthy seeds, and one per diverged seed.

    Args:
        model: Logs of the model.
        key: Key of the log.
        x: 'iterations' or 'time'.
        smooth: Number of logged losses to average.
    """
    healthy, curves = [], []
    for log in model.logs:
        iterations, places, values = _points(log, key, x, smooth)
        if not len(iterations):
            continue
        if log.diverged_at is None:
            healthy.append((iterations, places, values))
        else:
            curves.append(Curve(places, values, diverged=True))
    if len(healthy) == 1:
        curves.insert(0, Curve(*healthy[0][1:]))
    elif healthy:
        curves.insert(0, mean_of_seeds(healthy))
    return [curve for curve in curves if len(curve.x)]


def mean_of_seeds(seeds: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Curve:
    """Return the mean and the extremes at the iterations that all seeds have reached.

    Values between logged iterations are interpolated. Seeds of one config log at the
    same iterations.

    Args:
        seeds: Iterations, x and y of each seed, (N,) arrays whose N may differ.
    """
    begin = max(iterations[0] for iterations, _, _ in seeds)
    end = min(iterations[-1] for iterations, _, _ in seeds)
    at = seeds[0][0]
    at = at[(at >= begin) & (at <= end)]  # (K,)
    x = np.mean([np.interp(at, i, xs) for i, xs, _ in seeds], axis=0)
    values = np.stack([np.interp(at, i, ys) for i, _, ys in seeds])  # (seeds, K)
    return Curve(x, values.mean(0), values.min(0), values.max(0))


def smoothed(values: np.ndarray, count: int) -> np.ndarray:
    """Return the mean of `count` values around each, fewer at the ends, (N,)."""
    if count <= 1 or len(values) == 0:
        return values
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    begin = np.maximum(index - (count - 1) // 2, 0)
    end = np.minimum(index + count // 2 + 1, len(values))
    return (sums[end] - sums[begin]) / (end - begin)


def is_ap(key: str) -> bool:
    """Return whether a key is one of COCO's metrics, which are shown in percent."""
    return key in METRICS or key.rpartition('/')[2] in METRICS.values()


def is_smoothed(key: str, smooth: int) -> bool:
    """Return whether a key is a loss that is averaged over several lines."""
    return smooth > 1 and 'loss' in key


def _points(
    log: TrainingLog, key: str, x: str, smooth: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Iterations, x and y of a run's finite points, (N,) each."""
    if log.find(key) is None:
        return (np.empty(0),) * 3
    iterations, seconds, values = log.curve(key)
    if is_ap(key):
        # COCO gives -1 if there are no such objects.
        values = np.where(values < 0, np.nan, 100 * values)
    places = seconds if x == 'time' else iterations.astype(np.float64)
    good = np.isfinite(values) & np.isfinite(places)
    values = values[good]
    if is_smoothed(key, smooth):
        values = smoothed(values, smooth)
    return iterations[good], places[good], values
