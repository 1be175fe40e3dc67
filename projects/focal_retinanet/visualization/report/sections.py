"""The report's parts: each writes its files and says what the page shows of it.

A chart is a dict of 'file' (in the report's folder), 'alt' (what a reader who
does not see it is told), and where it matters 'title', 'note' and 'wide'.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from focal_retinanet.cli.console import quiet_mmengine
from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.detection_errors import (
    ERRORS,
    ImageDetections,
    cost_of_errors,
)
from focal_retinanet.evaluation.runs import Model
from focal_retinanet.evaluation.training_log import find_training_logs
from focal_retinanet.visualization.curves import default_keys, draw_curves
from focal_retinanet.visualization.report.charts import (
    MOST_BARS,
    class_precision_recall,
    draw_errors,
    draw_histogram,
    draw_precision_recall,
)
from focal_retinanet.visualization.report.config_differences import config_differences
from focal_retinanet.visualization.report.dataset_facts import DatasetFacts

#: Fig. 4 of the paper, which tools/plot_loss.py may have left in a work directory.
LOSS_PICTURES = ('loss_cdf.svg', 'loss_cdf.png')


def precision_recall_section(
    out: Path,
    number: int,
    images: Mapping[str, Sequence[ImageDetections]],
    classes: Mapping[int, str],
) -> list[dict]:
    """A chart a class, of the models that have the same ground truth.

    Args:
        out: the report's folder.
        number: of the ground truth.
        images: the detections of each model.
        classes: names by category id.
    """
    charts = []
    for cat_id, name in classes.items():
        curves = {
            model: class_precision_recall(of, cat_id) for model, of in images.items()
        }
        curves = {model: c for model, c in curves.items() if c is not None}
        if not curves:  # no object of the class
            continue
        file = out / 'charts' / f'precision_recall_{number}_{cat_id}.svg'
        draw_precision_recall(curves, file)
        aps = ', '.join(f'{m} {100 * c.mean():.1f}' for m, c in curves.items())
        charts.append(
            chart(out, file, f'Precision over recall of {name}; AP50: {aps}', name)
        )
    return charts


def errors_section(
    out: Path, number: int, runs: Mapping[str, Sequence[Sequence[ImageDetections]]]
) -> dict:
    """What each kind of error costs, on average over the seeds.

    Args:
        out: the report's folder.
        number: of the ground truth.
        runs: of each model and run the detections.
    """
    costs = {}
    for name, of_model in runs.items():
        seeds = [cost_of_errors(images) for images in of_model]
        costs[name] = {
            kind: float(np.mean([one[kind] for one in seeds]))
            for kind in ('AP50', *ERRORS)
        }
    highest = max([c[k] for c in costs.values() for k in ERRORS if c[k] > 0], default=1)
    rows = [
        dict(
            name=name,
            ap50=_percent(cost['AP50']),
            # NaN: nothing is left to find once what was missed is taken out.
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
    file = draw_errors(costs, out / 'charts' / f'errors_{number}.svg')
    return dict(
        kinds=ERRORS,
        rows=rows,
        most_bars=MOST_BARS,
        has_nan=any(np.isnan(cost[k]) for cost in costs.values() for k in ERRORS),
        chart=file
        and chart(
            out,
            file,
            'Points of AP50 that each kind of error costs, a bar a '
            'model; the numbers are in the table above',
        ),
    )


def curves_section(out: Path, paths: Sequence[str | Path]) -> dict:
    """A chart a key of the training logs.

    Returns:
        'charts', and 'notes' on what is not in them.
    """
    folders = [path for path in paths if Path(path).is_dir()]
    if not folders:
        return dict(charts=[], notes=['Files of detections have no training log.'])
    try:
        with quiet_mmengine():
            logs, notes = find_training_logs(folders)
        charts = []
        for key in default_keys(logs):
            file = out / 'charts' / f'curve_{key.replace("/", "_")}.svg'
            notes += draw_curves(logs, file, [key])
            alt = f'{key} over the iterations of training, a line a model'
            charts.append(chart(out, file, alt, wide=True))
    except UserError as error:
        return dict(charts=[], notes=str(error).splitlines())
    return dict(charts=charts, notes=list(dict.fromkeys(notes)))


def loss_section(out: Path, models: Sequence[Model]) -> list[dict]:
    """Fig. 4 of each model that has one in its work directory."""
    charts = []
    for number, model in enumerate(models):
        folders = [model.runs[0].path, model.runs[0].path.parent]
        files = [
            folder / name
            for folder in (folders if len(model.runs) > 1 else folders[:1])
            for name in LOSS_PICTURES
            if (folder / name).is_file()
        ]
        if files:
            file = out / 'charts' / f'loss_{number}{files[0].suffix}'
            file.parent.mkdir(exist_ok=True)
            shutil.copyfile(files[0], file)
            alt = f'Cumulative loss of positives and of negatives of {model.name}'
            charts.append(chart(out, file, alt, model.name, wide=True))
    return charts


def dataset_section(out: Path, number: int, facts: DatasetFacts) -> list[dict]:
    """Histograms of a ground truth."""
    if not facts.objects:
        return []
    highest = max(np.quantile(facts.sides, 0.99), 1)
    file = out / 'charts' / f'object_sizes_{number}.svg'
    draw_histogram(
        facts.sides,
        np.linspace(0, highest, 33),
        'square root of the area (pixels)',
        'objects',
        file,
    )
    sizes = chart(out, file, 'How many objects there are of each size', 'Object sizes')
    most = int(facts.per_image.max())
    step = max(1, -(-(most + 1) // 40))
    file = out / 'charts' / f'objects_per_image_{number}.svg'
    draw_histogram(
        facts.per_image,
        np.arange(0, most + step + 1, step) - 0.5,
        'objects in an image',
        'images',
        file,
    )
    title = 'Objects per image'
    return [sizes, chart(out, file, 'How many images have how many objects', title)]


def configs_section(models: Sequence[Model]) -> dict:
    """Full configs, and the keys in which they differ; of the first seeds."""
    with_config = [model for model in models if model.cfg is not None]
    return dict(
        names=[model.name for model in with_config],
        texts=[model.cfg.pretty_text for model in with_config],
        differences=config_differences([m.cfg.to_dict() for m in with_config]),
        without=[model.name for model in models if model.cfg is None],
    )


def chart(
    out: Path, file: Path, alt: str, title: str | None = None, wide: bool = False
) -> dict:
    """What the page needs to show a picture.

    Args:
        out: the report's folder, which the picture is in.
        wide: whether a narrow window scrolls it rather than shrinks it.
    """
    return dict(file=file.relative_to(out).as_posix(), alt=alt, title=title, wide=wide)


def _percent(value: float) -> str:
    return '-' if np.isnan(value) else f'{100 * value:.1f}'
