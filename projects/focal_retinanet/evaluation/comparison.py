"""Comparison of models on one ground truth: a model zoo's numbers and differences."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.average_precision import METRICS, MatchedDetections
from focal_retinanet.evaluation.bootstrap import (
    CONFIDENCE,
    Difference,
    difference,
    holm,
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
    corrects: bool = False,
    progress: Callable[[Iterable, str], Iterable] = lambda rows, _: rows,
    warn: Callable[[str], None] = print,
) -> dict:
    """Return the numbers of all models, and how each differs from one of them.

    Args:
        models: One or more models.
        ann_file: Path of the COCO JSON (default: that of the configs).
        reference: Name of the model that the others are compared to (default: the
            first one).
        num_resamples: Number of resamples for the intervals; 0 for none.
        seed: Seed of the resampling.
        corrects: Whether the differences are corrected for their number, by Holm's
            method.
        progress: Function that wraps an iteration, given its description.
        warn: Function that gets a line for each number that cannot be measured.

    Returns:
        Content of ``--json``: 'models', with every number at full precision, or None
        if it is not measured; 'differences'; and how they are made.

    Raises:
        FileNotFoundError: There is no such annotation file.
        UserError: See :func:`~focal_retinanet.evaluation.ground_truth.read_ground_truth`;
            or there is no such reference.
    """
    truth = read_ground_truth(models, ann_file, warn)
    names = [model.name for model in models]
    reference = names[0] if reference is None else reference
    if reference not in names:
        raise UserError(f'no model is called {reference}; there are {", ".join(names)}')

    of_one_seed = _of_one_seed(models, warn)
    rows, resampled = [], {name: [] for name in names}
    has_intervals = len(models) > 1 and num_resamples > 0
    if has_intervals:
        resamples = resample_images(len(truth.coco.imgs), num_resamples, seed)
    for model in models:
        seeds = []
        for run in model.runs:
            matches = MatchedDetections(truth.coco, run.detections, list(truth.classes))
            seeds.append(
                {
                    'seed': run.seed,
                    'path': str(run.path),
                    **_numbers(matches),
                    'class_AP': _class_aps(matches, truth.classes),
                }
            )
            if has_intervals:
                aps = resampled_ap(
                    matches, resamples, lambda it, n=run.path: progress(it, str(n))
                )
                resampled[model.name].append(aps)
        rows.append(_row(model, seeds, warn))

    aps = {row['name']: [one['AP'] for one in row['seeds']] for row in rows}
    others = [name for name in names if name != reference] if has_intervals else []
    differences = _differences(others, reference, aps, resampled, corrects, of_one_seed)
    return dict(
        ann_file=truth.ann_file,
        images=len(truth.coco.imgs),
        categories=list(truth.classes.values()),
        confidence=CONFIDENCE,
        correction='Holm' if corrects else None,
        resamples=num_resamples if has_intervals else 0,
        seed=seed,
        models=rows,
        differences=differences,
    )


def _differences(
    names: Sequence[str],
    reference: str,
    aps: Mapping[str, list[float]],
    resampled: Mapping[str, list[np.ndarray]],
    corrects: bool,
    of_one_seed: set[str],
) -> list[dict]:
    """Return how each model differs from the reference."""

    def to_reference(name: str, confidence: float = CONFIDENCE) -> Difference:
        both = (name, reference)
        values = [part for n in both for part in (aps[n], resampled[n])]
        return difference(*values, confidence, not of_one_seed & set(both))

    gaps = [to_reference(name) for name in names]
    corrected = [None] * len(gaps)
    if corrects:
        corrected, levels = holm([gap.p for gap in gaps])
        gaps = [to_reference(*pair) for pair in zip(names, levels, strict=True)]
    return [
        dict(
            model=name,
            reference=reference,
            AP=gap.ap,
            low=gap.low,
            high=gap.high,
            confidence=gap.confidence,
            bias=gap.bias,
            lopsided=gap.is_lopsided,
            p_images=gap.p_images,
            p_seeds=gap.p_seeds,
            p_corrected=p,
            within_noise=gap.is_noise or (p is not None and not p < 1 - CONFIDENCE),
        )
        for name, gap, p in zip(names, gaps, corrected, strict=True)
    ]


def _of_one_seed(models: Sequence[Model], warn: Callable[[str], None]) -> set[str]:
    """Return the models whose runs repeat a seed, and say so."""
    repeated = set()
    for model in models:
        seeds = [run.seed for run in model.runs if run.seed is not None]
        if len(set(seeds)) < len(seeds):
            repeated.add(model.name)
            warn(
                f'{model.name}: its runs have the seeds {seeds}, so their spread is not '
                'that over seeds, and is not tested'
            )
    return repeated


def _numbers(matches: MatchedDetections) -> dict[str, float | None]:
    """APs by name; None if there are no objects."""
    return {
        name: None if math.isnan(value) else value
        for name, value in matches.summarize().items()
    }


def _class_aps(
    matches: MatchedDetections, classes: Mapping[int, str]
) -> list[float | None]:
    """AP of each class in the order of the categories; None if it has no objects."""
    by_id = dict(
        zip(matches.cat_ids, matches.average_precision().mean(0).tolist(), strict=True)
    )
    return [None if math.isnan(by_id[i]) else by_id[i] for i in classes]


def _row(model: Model, seeds: list[dict], warn: Callable[[str], None]) -> dict:
    """Row of a model: means over its seeds."""
    params = flops = size = None
    if model.cfg is not None:
        try:
            params, flops, size = complexity(model.cfg)
        except Exception as error:  # one untraceable model does not stop the others
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
    row['class_AP'] = [
        _mean(aps) for aps in zip(*(one['class_AP'] for one in seeds), strict=True)
    ]
    aps = [one['AP'] for one in seeds]
    row['AP_sd'] = statistics.stdev(aps) if len(aps) > 1 else None
    return {**row, 'seeds': seeds}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None
