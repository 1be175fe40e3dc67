"""Whether a difference in AP exceeds the noise of the images and of the seeds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from focal_retinanet.evaluation.average_precision import MatchedDetections

#: Confidence level of the intervals.
CONFIDENCE = 0.95
#: Bias of a bootstrap, in standard errors, up to which its interval may be trusted
#: (Efron and Tibshirani, An Introduction to the Bootstrap, 10.3).
TOLERATED_BIAS = 0.25
#: A smaller bias does not show in an AP of one decimal in percent.
SMALLEST_BIAS = 0.0005


def resample_images(num_images: int, num_resamples: int, seed: int) -> np.ndarray:
    """Resample a data set with replacement.

    Returns:
        int64 (num_resamples, num_images), number of copies of each image.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(
        num_images, np.full(num_images, 1 / num_images), num_resamples
    )


def resampled_ap(
    matches: MatchedDetections,
    resamples: np.ndarray,
    progress: Callable[[Iterable], Iterable] = iter,
) -> np.ndarray:
    """Return COCO's exact AP of each resample, float64 (num_resamples,).

    A resample without objects gives NaN.

    Args:
        matches: Detections of one run.
        resamples: Result of :func:`resample_images`. Runs are paired if all of them
            get the same resamples.
        progress: Function that wraps the iteration.
    """
    aps = [matches.average_precision(weights=row) for row in progress(resamples)]
    flat = np.stack(aps).reshape(len(aps), -1)
    # The mean is over the classes with objects in the resample.
    counts = (~np.isnan(flat)).sum(1)
    return np.where(counts, np.nansum(flat, axis=1), np.nan) / np.maximum(counts, 1)


@dataclass(frozen=True)
class Difference:
    """Difference of the APs of two models.

    Attributes:
        ap: Difference of their mean APs over the seeds.
        low, high: Interval by paired bootstrap over the images.
        p_images: Two-sided p-value of the same bootstrap.
        p_seeds: P-value of Welch's t-test over the seeds; None if a model has only
            one seed.
        confidence: Confidence level of the interval and of the verdict.
        bias: Mean difference over the resamples, minus ``ap``.
        standard_error: Standard deviation of the difference over the resamples.
    """

    ap: float
    low: float
    high: float
    p_images: float
    p_seeds: float | None
    confidence: float = CONFIDENCE
    bias: float = 0.0
    standard_error: float = 0.0

    @property
    def p(self) -> float:
        """p-value of a difference that neither images nor seeds reverse."""
        return max(self.p_images, self.p_seeds or 0.0)

    @property
    def is_noise(self) -> bool:
        """Whether other images or other seeds may reverse the difference."""
        by_seed = self.p_seeds is not None and not self.p_seeds < 1 - self.confidence
        return self.low <= 0 <= self.high or by_seed

    @property
    def is_lopsided(self) -> bool:
        """Whether the interval lies to one side of the difference.

        COCO's interpolated precision is a maximum over noise, and a resample has more
        noise, so its AP is higher on average. In a difference, this cancels unless one
        of the models finds much less than the other.
        """
        tolerated = max(TOLERATED_BIAS * self.standard_error, SMALLEST_BIAS)
        return abs(self.bias) > tolerated


def difference(
    aps: Sequence[float],
    resampled: Sequence[np.ndarray],
    other_aps: Sequence[float],
    other_resampled: Sequence[np.ndarray],
    confidence: float = CONFIDENCE,
    tests_seeds: bool = True,
) -> Difference:
    """Return the difference of two models, given an AP and resamples per seed."""
    ap = float(np.mean(aps) - np.mean(other_aps))
    spread = np.mean(resampled, axis=0) - np.mean(other_resampled, axis=0)
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(spread, [tail, 1 - tail])
    known = spread[~np.isnan(spread)]
    smaller_side = min((known <= 0).sum(), (known >= 0).sum())
    # No resample on the other side does not make it impossible.
    p_images = min(1.0, 2 * (smaller_side + 1) / (len(known) + 1))
    p_seeds = None
    if tests_seeds and len(aps) > 1 and len(other_aps) > 1:
        if np.ptp(aps) == 0 and np.ptp(other_aps) == 0:
            # The t-test would divide by a spread of 0.
            p_seeds = float(ap == 0)
        else:
            p_seeds = float(stats.ttest_ind(aps, other_aps, equal_var=False).pvalue)
    return Difference(
        ap,
        float(low),
        float(high),
        p_images,
        p_seeds,
        confidence,
        bias=float(known.mean() - ap),
        standard_error=float(known.std()),
    )


def holm(p_values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Correct p-values of M comparisons by Holm's step-down method.

    Args:
        p_values: P-value of each comparison.

    Returns:
        Corrected p-values, and the confidence level at which each comparison is tested:
        1 - 0.05 / M for the smallest p-value, 1 - 0.05 / (M - 1) for the next, ...
    """
    corrected, levels, highest = [0.0] * len(p_values), [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind='stable')):
        left = len(p_values) - rank
        highest = max(highest, min(1.0, left * p_values[index]))
        corrected[index], levels[index] = highest, 1 - (1 - CONFIDENCE) / left
    return corrected, levels
