"""Models on one ground truth: a model zoo's numbers, and whether they differ."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.average_precision import METRICS, MatchedDetections
from focal_retinanet.evaluation.bootstrap import (
    CONFIDENCE,
    difference,
    resample_images,
    resampled_ap,
)
from focal_retinanet.evaluation.complexity import complexity
from focal_retinanet.evaluation.ground_truth import read_ground_truth
from focal_retinanet.evaluation.runs import Model


def compare(
    models: Sequence[Model],
    ann_file: str | Path | None = None,
    reference: str | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
    progress: Callable[[Iterable, str], Iterable] = lambda rows, _: rows,
    warn: Callable[[str], None] = print,
) -> dict:
    """The numbers of all models, and the differences of each to one of them.

    Args:
        models: one or more.
        ann_file: ground truth; that of the configs by default.
        reference: name of the model that the others are compared to; the first
            by default.
        num_resamples: of the images, for the intervals; 0 for none.
        seed: of the resampling.
        progress: wraps an iteration, given what it is about.
        warn: is given what could not be measured, and why.

    Returns:
        What ``--json`` writes: 'models', with every number at full precision and
        None for what was not measured; 'differences'; and how they were made.

    Raises:
        FileNotFoundError: there is no ground truth.
        UserError: the models have other ground truths or other classes, or
            detections are not of these images; or there is no such reference.
    """
    truth = read_ground_truth(models, ann_file, warn)
    names = [model.name for model in models]
    reference = names[0] if reference is None else reference
    if reference not in names:
        raise UserError(f'no model is called {reference}; there are {", ".join(names)}')

    rows, resampled = [], {}
    has_intervals = len(models) > 1 and num_resamples > 0
    resamples = None
    for model in models:
        seeds = []
        for run in model.runs:
            matches = MatchedDetections(truth.coco, run.detections, list(truth.classes))
            seeds.append({'seed': run.seed, 'path': str(run.path), **_numbers(matches)})
            if has_intervals:
                if resamples is None:
                    resamples = resample_images(
                        len(matches.img_ids), num_resamples, seed
                    )
                aps = resampled_ap(
                    matches, resamples, lambda it, n=run.path: progress(it, str(n))
                )
                resampled.setdefault(model.name, []).append(aps)
        rows.append(_row(model, seeds, warn))

    aps = {row['name']: [one['AP'] for one in row['seeds']] for row in rows}
    differences = []
    for name in names if has_intervals else ():
        if name != reference:
            gap = difference(
                aps[name], resampled[name], aps[reference], resampled[reference]
            )
            differences.append(
                dict(
                    model=name,
                    reference=reference,
                    AP=gap.ap,
                    low=gap.low,
                    high=gap.high,
                    p_seeds=gap.p_seeds,
                    within_noise=gap.is_noise,
                )
            )
    return dict(
        ann_file=truth.ann_file,
        images=len(truth.coco.imgs),
        categories=list(truth.classes.values()),
        confidence=CONFIDENCE,
        resamples=num_resamples if has_intervals else 0,
        seed=seed,
        models=rows,
        differences=differences,
    )


def _numbers(matches: MatchedDetections) -> dict[str, float | None]:
    """The APs; None where there is nothing to find."""
    return {
        name: None if math.isnan(value) else value
        for name, value in matches.summarize().items()
    }


def _row(model: Model, seeds: list[dict], warn: Callable[[str], None]) -> dict:
    """A model's line: means over its seeds."""
    params = flops = size = None
    if model.cfg is not None:
        try:
            params, flops, size = complexity(model.cfg)
        except Exception as error:  # one model that cannot be traced, of many
            reason = str(error).strip().split('\n')[0]
            warn(f'{model.name}: parameters and FLOPs are not measured ({reason})')
    row = dict(
        name=model.name,
        config=str(model.cfg.filename) if model.cfg else None,
        schedule=model.runs[0].schedule,
        params=params,
        flops=flops,
        flops_input=size,
        memory_gb=_mean(run.memory_gb for run in model.runs),
        seconds_per_iter=_mean(run.seconds_per_iter for run in model.runs),
        images_per_second=_mean(run.images_per_second for run in model.runs),
    )
    for name in METRICS:
        row[name] = _mean(one[name] for one in seeds)
    aps = [one['AP'] for one in seeds]
    row['AP_sd'] = statistics.stdev(aps) if len(aps) > 1 else None
    return {**row, 'seeds': seeds}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None
