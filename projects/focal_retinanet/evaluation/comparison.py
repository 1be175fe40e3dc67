"""Models on one ground truth: a model zoo's numbers, and whether they differ."""

import contextlib
import io
import math
import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pycocotools.coco import COCO

from focal_retinanet.data.coco_check import check_coco
from focal_retinanet.engine.errors import UserError
from focal_retinanet.evaluation.average_precision import METRICS, MatchedDetections
from focal_retinanet.evaluation.bootstrap import (
    CONFIDENCE,
    difference,
    resample_images,
    resampled_ap,
)
from focal_retinanet.evaluation.complexity import complexity
from focal_retinanet.evaluation.runs import Model, Run


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
    ann_file = str(ann_file) if ann_file is not None else _common_ann_file(models)
    coco = _read_ground_truth(ann_file)
    cat_ids = _category_ids(models, coco, ann_file)
    if not any(coco.loadAnns(coco.getAnnIds(catIds=cat_ids, iscrowd=False))):
        raise UserError(f'{ann_file} has no object to find')
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
            _check_images(run, coco, ann_file)
            matches = MatchedDetections(coco, run.detections, cat_ids)
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
        ann_file=ann_file,
        images=len(coco.imgs),
        categories=[coco.cats[cat_id]['name'] for cat_id in cat_ids],
        confidence=CONFIDENCE,
        resamples=num_resamples if has_intervals else 0,
        seed=seed,
        models=rows,
        differences=differences,
    )


def _read_ground_truth(ann_file: str) -> COCO:
    """Without what pycocotools prints."""
    errors = check_coco(ann_file).errors
    if errors:
        raise UserError('\n'.join(errors))
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(ann_file)


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
        except Exception as error:  # one model that can not be traced, of many
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


def _common_ann_file(models: Sequence[Model]) -> str:
    """The one file that all configs name."""
    files = {os.path.abspath(f) for f in _of_configs(models, 'ann_file') if f}
    if not files:
        raise UserError(
            'files of detections do not say their ground truth: name it by '
            '--ann-file, as there is no work directory among them'
        )
    if len(files) > 1:
        raise UserError(
            'the runs have other ground truths, name one by --ann-file:\n'
            + '\n'.join(sorted(files))
        )
    return os.path.relpath(files.pop())


def _category_ids(models: Sequence[Model], coco: COCO, ann_file: str) -> list[int]:
    """Ids of the classes that the configs name; of all categories without."""
    of_configs = {tuple(c) for c in _of_configs(models, 'classes') if c is not None}
    if len(of_configs) > 1:
        lists = '\n'.join(str(classes) for classes in sorted(of_configs))
        raise UserError(f'the runs have other classes, and no common AP:\n{lists}')
    if not of_configs:
        return sorted(coco.cats)
    classes = of_configs.pop()
    ids = {category['name']: cat_id for cat_id, category in coco.cats.items()}
    missing = [name for name in classes if name not in ids]
    if missing:
        raise UserError(
            f'{ann_file} has no category {missing[0]!r}, which the runs know; it has '
            f'{", ".join(ids)}'
        )
    return sorted(ids[name] for name in classes)


def _of_configs(models: Sequence[Model], attribute: str) -> list:
    return [getattr(r, attribute) for m in models for r in m.runs if r.cfg is not None]


def _check_images(run: Run, coco: COCO, ann_file: str) -> None:
    for detection in run.detections:
        if detection['image_id'] not in coco.imgs:
            raise UserError(
                f'{run.path} has a detection in image {detection["image_id"]}, '
                f'which {ann_file} has not: they are of other data'
            )
