"""Sections of the report: each writes its charts and returns what the page shows.

``folder`` is the report's folder of charts, ``number`` that of the ground truth. A
chart is a dict with the 'file' in the report's folder, the text for screen readers
('alt'), a 'title' or None, and whether it is 'wide'.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from focal_retinanet.cli.console import quiet_mmengine
from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.confusion import (
    MOST_CLASSES,
    confusion_matrix,
    confusion_table,
)
from focal_retinanet.evaluation.detection_errors import (
    ERRORS,
    ImageDetections,
    cost_of_errors,
)
from focal_retinanet.evaluation.runs import Model
from focal_retinanet.evaluation.score_thresholds import (
    ScoredDetections,
    all_classes,
    describe_best,
    thresholds_table,
)
from focal_retinanet.evaluation.tables import (
    classes_table,
    differences_table,
    models_table,
)
from focal_retinanet.evaluation.training_log import find_training_logs
from focal_retinanet.visualization import style
from focal_retinanet.visualization.curves import default_keys, draw_curves
from focal_retinanet.visualization.report import charts
from focal_retinanet.visualization.report.comparing import Compared
from focal_retinanet.visualization.report.config_differences import config_differences
from focal_retinanet.visualization.report.dataset_facts import DatasetFacts
from focal_retinanet.visualization.score_thresholds import draw_thresholds

#: Fig. 4 of the paper, if tools/plot_loss.py has left one in a work directory.
LOSS_FIGURES = ('loss_cdf.svg', 'loss_cdf.png')


def numbers(folder: Path, compared: Compared) -> dict:
    """Show the comparisons in tables and charts, and why there is no common one."""
    common = compared.common
    comparisons = [common] if common else list(compared.alone.values())
    rows = [row for comparison in comparisons for row in comparison['models']]
    speed = differences = None
    if common:
        speed = charts.draw_speed_accuracy(rows, folder / 'speed_accuracy.svg')
    if common and common['differences']:
        differences = charts.draw_differences(
            common['differences'], folder / 'differences.svg'
        )
    return dict(
        why_not=compared.why_not,
        comparisons=[(c, models_table(c), classes_table(c)) for c in comparisons],
        differences=differences_table(common) if differences else None,
        differences_chart=differences
        and _chart(differences, 'Differences of AP with intervals, as in the table'),
        figure_2=speed
        and _chart(speed, 'AP over time per image; numbers as in the table'),
        has_speed=any(r['seconds_per_iter'] or r['images_per_second'] for r in rows),
        timed=sum(bool(row['images_per_second']) for row in rows),
        not_timed=[row['name'] for row in rows if not row['images_per_second']],
        most_lines=style.MOST_LOOKS,
        most_bars=charts.MOST_BARS,
    )


def precision_recall(
    folder: Path,
    number: int,
    images: Mapping[str, Sequence[ImageDetections]],
    classes: Mapping[int, str],
) -> list[dict]:
    """Draw one chart per class, of the models with the same ground truth.

    There is none for more models than ``style.MOST_LOOKS``.
    """
    shown = []
    for cat_id, name in classes.items():
        curves = {
            model: charts.class_precision_recall(found, cat_id)
            for model, found in images.items()
        }
        if any(curve is None for curve in curves.values()):  # no object of the class
            continue
        file = folder / f'precision_recall_{number}_{cat_id}.svg'
        if charts.draw_precision_recall(curves, file) is None:
            return []
        aps = ', '.join(f'{m} {100 * c.mean():.1f}' for m, c in curves.items())
        alt = f'Precision over recall of {name}; AP50: {aps}'
        shown.append(_chart(file, alt, name))
    return shown


def thresholds(
    folder: Path,
    number: int,
    images: Mapping[str, Sequence[ImageDetections]],
    scored: Mapping[str, Mapping[int, ScoredDetections]],
    classes: Mapping[int, str],
) -> list[dict]:
    """Show each model's threshold of the best F1, and its confusion of classes there.

    Args:
        folder: Folder of the charts.
        number: Number of the ground truth.
        images: Detections of each model.
        scored: The same detections by category.
        classes: Names of the categories.
    """
    shown = []
    for index, (name, by_class) in enumerate(scored.items()):
        file = draw_thresholds(
            by_class, classes, folder / f'thresholds_{number}_{index}.svg'
        )
        says = describe_best(by_class)
        best = all_classes(by_class).best
        matrix = best and confusion_matrix(images[name], list(by_class), best.score_thr)
        shown.append(
            dict(
                name=name,
                says=says,
                score_thr=best and best.score_thr,
                rows=thresholds_table(by_class, classes),
                confusion=best and confusion(matrix, list(classes.values())),
                chart=_chart(file, f'Precision, recall and F1 of {name}. {says}'),
            )
        )
    return shown


def confusion(matrix: np.ndarray, names: Sequence[str]) -> dict:
    """Return the rows of a confusion, and of each number its share in percent.

    Shares are of the objects of a class; in the last row, of the detections of a
    class. A list of pairs has no shares.
    """
    rows = confusion_table(matrix, names)
    shares = np.zeros((len(rows) - 1, len(rows[0]) - 1))
    if len(names) <= MOST_CLASSES:
        totals = np.repeat(matrix.sum(1, keepdims=True), len(matrix), axis=1)
        totals[-1] = matrix.sum(0)
        shares = 100 * matrix / np.maximum(totals, 1)
    return dict(head=rows[0], rows=list(zip(rows[1:], shares.tolist(), strict=True)))


def errors(
    folder: Path, number: int, runs: Mapping[str, Sequence[Sequence[ImageDetections]]]
) -> dict:
    """Show what each kind of error costs, on average over the seeds."""
    costs = {}
    for name, seeds in runs.items():
        cost_of_seeds = [cost_of_errors(images) for images in seeds]
        costs[name] = {
            kind: float(np.mean([one[kind] for one in cost_of_seeds]))
            for kind in ('AP50', *ERRORS)
        }
    highest = max([c[k] for c in costs.values() for k in ERRORS if c[k] > 0], default=1)
    rows = [
        dict(
            name=name,
            ap50=_percent(cost['AP50']),
            # NaN: without the missed objects there are none.
            cells=[
                dict(
                    text=_percent(cost[kind]),
                    share=np.nan_to_num(100 * max(cost[kind], 0) / highest),
                )
                for kind in ERRORS
            ],
        )
        for name, cost in costs.items()
    ]
    file = charts.draw_errors(costs, folder / f'errors_{number}.svg')
    alt = 'Points of AP50 that each kind of error costs, as in the table above'
    return dict(
        kinds=list(ERRORS),
        rows=rows,
        has_nan=any(np.isnan(cost[k]) for cost in costs.values() for k in ERRORS),
        chart=file and _chart(file, alt),
    )


def curves(folder: Path, paths: Sequence[str | Path]) -> dict:
    """Draw one chart per key of the training logs, with notes on missing curves."""
    paths = [path for path in paths if Path(path).is_dir()]
    if not paths:
        return dict(charts=[], notes=['Files of detections have no training log.'])
    try:
        with quiet_mmengine():
            logs, notes = find_training_logs(paths)
        shown = []
        for key in default_keys(logs):
            file = folder / f'curve_{key.replace("/", "_")}.svg'
            notes += draw_curves(logs, file, [key])
            alt = f'{key} over the iterations of training, one line per model'
            shown.append(_chart(file, alt, wide=True))
    except UserError as error:
        return dict(charts=[], notes=str(error).splitlines())
    return dict(charts=shown, notes=list(dict.fromkeys(notes)))


def loss(folder: Path, models: Sequence[Model]) -> list[dict]:
    """Copy Fig. 4 of the models that have one in their work directory."""
    shown = []
    for number, model in enumerate(models):
        path = model.runs[0].path
        places = [path, path.parent] if len(model.runs) > 1 else [path]
        files = (place / name for place in places for name in LOSS_FIGURES)
        figure = next((file for file in files if file.is_file()), None)
        if figure is not None:
            file = folder / f'loss_{number}{figure.suffix}'
            folder.mkdir(exist_ok=True)
            shutil.copyfile(figure, file)
            alt = f'Cumulative loss of positives and of negatives of {model.name}'
            shown.append(_chart(file, alt, model.name, wide=True))
    return shown


def dataset(folder: Path, number: int, facts: DatasetFacts) -> list[dict]:
    """Draw histograms of a ground truth: object sizes, and objects per image."""
    if not facts.objects:
        return []
    highest = max(np.quantile(facts.sides, 0.99), 1)
    most = int(facts.per_image.max())
    step = max(1, -(-(most + 1) // 40))
    sizes = charts.draw_histogram(
        facts.sides,
        np.linspace(0, highest, 33),
        'square root of the area (pixels)',
        'objects',
        folder / f'object_sizes_{number}.svg',
    )
    counts = charts.draw_histogram(
        facts.per_image,
        np.arange(0, most + step + 1, step) - 0.5,
        'objects in an image',
        'images',
        folder / f'objects_per_image_{number}.svg',
    )
    return [
        _chart(sizes, 'Number of objects of each size', 'Object sizes'),
        _chart(counts, 'Number of images by number of objects', 'Objects per image'),
    ]


def configs(models: Sequence[Model]) -> dict:
    """Return the configs of the first seeds, and the keys in which they differ."""
    with_config = [model for model in models if model.cfg is not None]
    return dict(
        names=[model.name for model in with_config],
        texts=[model.cfg.pretty_text for model in with_config],
        differences=config_differences([m.cfg.to_dict() for m in with_config]),
        without=[model.name for model in models if model.cfg is None],
    )


def _chart(file: Path, alt: str, title: str | None = None, wide: bool = False) -> dict:
    """Chart of a file; a narrow window scrolls it if it is wide, else it shrinks."""
    return dict(file=f'{file.parent.name}/{file.name}', alt=alt, title=title, wide=wide)


def _percent(value: float) -> str:
    return '-' if np.isnan(value) else f'{100 * value:.1f}'
