"""A report on trained models, a folder of HTML: numbers, charts, galleries, configs."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from focal_retinanet.cli.console import quiet_mmengine
from focal_retinanet.cli.output_dir import check_output_dir
from focal_retinanet.evaluation.detection_errors import (
    ERRORS,
    ImageDetections,
    classify_detections,
)
from focal_retinanet.evaluation.ground_truth import GroundTruth, load_coco
from focal_retinanet.evaluation.runs import Model, Run, find_models
from focal_retinanet.evaluation.score_thresholds import score_detections
from focal_retinanet.version import __version__
from focal_retinanet.visualization.report import gallery, sections
from focal_retinanet.visualization.report.comparing import (
    Compared,
    compare_what_can_be,
)
from focal_retinanet.visualization.report.dataset_facts import dataset_facts
from focal_retinanet.visualization.report.folder import (
    check_own_files,
    replaced_files,
)
from focal_retinanet.visualization.report.thumbnails import Thumbnails

HERE = Path(__file__).parent
#: Program that index.html names as the one that made it.
GENERATOR = 'focal_retinanet tools/report.py'

Progress = Callable[[Iterable, str], Iterable]


@dataclass(frozen=True)
class EvaluatedModels:
    """Models with the same ground truth, and the kinds of their detections.

    Attributes:
        truth: Ground truth.
        runs: Detections of each model, seed and image.
    """

    truth: GroundTruth
    runs: dict[str, list[list[ImageDetections]]]


def write_report(
    paths: Sequence[str | Path],
    out: str | Path,
    ann_file: str | None = None,
    reference: str | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
    corrects: bool = False,
    img_dir: str | Path | None = None,
    max_images: int = 200,
    overwrite: bool = False,
    progress: Progress = lambda rows, _: rows,
    warn: Callable[[str], None] = print,
) -> Path:
    """Write a report that opens from disk, without a server or a network.

    Args:
        paths: Models, see :func:`~focal_retinanet.evaluation.runs.find_models`.
        out: Folder to write.
        ann_file, reference, num_resamples, seed, corrects, progress: See
            :func:`~focal_retinanet.evaluation.comparison.compare`.
        img_dir: Folder of the images (default: that of the configs).
        max_images: Number of images in the gallery, the worst ones.
        overwrite: Whether the folder may have files already. Those of an earlier
            report are deleted, and an ``index.html`` is replaced.
        warn: Function that gets a line for each part that the report lacks. The page
            shows these lines too.

    Returns:
        The page, ``out/index.html``.

    Raises:
        UserError: No model has numbers, there is no such reference, or the folder
            has files already; with ``overwrite``, files that no report wrote in the
            folders ``charts``, ``data``, ``images`` or ``static``.
    """
    out = Path(out)
    warnings: list[str] = []

    def note(line: str) -> None:
        warnings.append(line)
        warn(line)

    check_output_dir(out, overwrite)
    check_own_files(out)
    with quiet_mmengine():
        models, left_out = find_models(paths, skip_errors=True)
    for line in left_out:
        note(f'left out {line}')
    for run in (run for model in models for run in model.runs):
        if not run.detections:
            note(f'{run.path} has no detections, so its AP is 0')
    configs = sections.configs(models)
    compared = compare_what_can_be(
        models,
        ann_file,
        reference,
        num_resamples,
        seed,
        corrects,
        progress=progress,
        warn=note,
    )
    for line in compared.left_out:
        note(f'left out {line}')
    groups = _evaluate(compared, progress)

    with replaced_files(out):
        charts = out / 'charts'
        thumbnails = Thumbnails(out / 'images')
        context = dict(
            generator=GENERATOR,
            version=__version__,
            time=datetime.now().astimezone().strftime('%Y-%m-%d %H:%M'),
            names=[model.name for model in compared.models],
            **sections.numbers(charts, compared),
            truths=[
                dict(
                    ann_file=group.truth.ann_file,
                    names=list(group.runs),
                    classes=list(group.truth.classes.values()),
                    **_charts_of_group(out, number, group),
                    **_gallery_of_group(
                        out / 'data',
                        number,
                        group,
                        _first_run_with_images(group, compared.models),
                        img_dir,
                        thumbnails,
                        max_images,
                        progress,
                    ),
                )
                for number, group in enumerate(groups)
            ],
            curves=sections.curves(charts, paths),
            losses=sections.loss(charts, compared.models),
            configs=configs,
            box_kinds=[(kind, gallery.group_of(kind)) for kind in gallery.BOX_KINDS],
            groups=gallery.GROUPS,
            errors=ERRORS,
            page=gallery.PAGE,
            lowest_score=gallery.LOWEST_SCORE,
            most_detections=gallery.MOST_DETECTIONS,
            warnings=warnings,
        )
        alone = 'the gallery shows their boxes alone'
        if thumbnails.missing:
            note(
                f'{len(thumbnails.missing)} image files were not found, the first is '
                f'{thumbnails.missing[0]}: {alone}; name their folder by --img-dir'
            )
        if thumbnails.unfit:
            note(
                f'{len(thumbnails.unfit)} image files cannot be shown: {alone}; the '
                f'first: {thumbnails.unfit[0]}'
            )
        return _render(out, context)


def _evaluate(compared: Compared, progress: Progress) -> list[EvaluatedModels]:
    """Classify all detections, models with the same ground truth together."""
    groups: dict[tuple, EvaluatedModels] = {}
    for model in progress(compared.models, 'kinds of errors'):
        numbers = compared.alone[model.name]
        key = (numbers['ann_file'], *numbers['categories'])
        if key not in groups:
            coco = load_coco(numbers['ann_file'])
            names = {cat_id: coco.cats[cat_id]['name'] for cat_id in sorted(coco.cats)}
            classes = {i: n for i, n in names.items() if n in numbers['categories']}
            truth = GroundTruth(numbers['ann_file'], coco, classes)
            groups[key] = EvaluatedModels(truth, {})
        truth = groups[key].truth
        groups[key].runs[model.name] = [
            classify_detections(truth.coco, run.detections, list(truth.classes))
            for run in model.runs
        ]
    return list(groups.values())


def _charts_of_group(out: Path, number: int, group: EvaluatedModels) -> dict:
    """Charts and numbers of the models with one ground truth, and facts about it."""
    folder = out / 'charts'
    first_runs = {name: runs[0] for name, runs in group.runs.items()}
    facts = dataset_facts(group.truth.coco, list(group.truth.classes))
    scored = {
        name: score_detections(images, list(group.truth.classes))
        for name, images in first_runs.items()
    }
    for index, by_class in enumerate(scored.values()):
        gallery.write_scores(out / 'data', f'gallery-{number}-{index}', by_class)
    return dict(
        thresholds=sections.thresholds(
            folder, number, first_runs, scored, group.truth.classes
        ),
        precision_recall=sections.precision_recall(
            folder, number, first_runs, group.truth.classes
        ),
        errors=sections.errors(folder, number, group.runs),
        facts=facts,
        charts=sections.dataset(folder, number, facts),
    )


def _first_run_with_images(
    group: EvaluatedModels, models: Sequence[Model]
) -> Run | None:
    """First run of a group's models whose config names the folder of the images."""
    runs = [model.runs[0] for model in models if model.name in group.runs]
    return next((run for run in runs if run.img_dir), None)


def _gallery_of_group(
    data: Path,
    number: int,
    group: EvaluatedModels,
    run: Run | None,
    img_dir: str | Path | None,
    thumbnails: Thumbnails,
    max_images: int,
    progress: Progress,
) -> dict:
    """Write the worst images of the models with one ground truth."""
    folder = Path(img_dir) if img_dir else run and run.img_dir
    is_stored = run is not None and run.ignores_orientation
    infos = group.truth.coco.imgs
    shown = gallery.worst_images([runs[0] for runs in group.runs.values()])[:max_images]
    names = {}
    for img_id in progress(shown, 'images'):
        info = infos[img_id]
        size = (info['width'], info['height'])
        names[img_id] = folder and thumbnails.add(
            folder / info['file_name'], size, is_stored
        )
    galleries = []
    for index, (name, runs) in enumerate(group.runs.items()):
        by_id = {image.image_id: image for image in runs[0]}
        images = [by_id[img_id] for img_id in shown]
        file = f'gallery-{number}-{index}'
        gallery.write_gallery(
            data, file, images, infos, names, list(group.truth.classes)
        )
        galleries.append(dict(data=file, name=name))
    return dict(
        galleries=galleries,
        shown=len(shown),
        without_image=sum(name is None for name in names.values()),
        folder=folder,
    )


def _render(out: Path, context: dict) -> Path:
    environment = Environment(
        loader=FileSystemLoader(HERE / 'templates'),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    shutil.copytree(HERE / 'static', out / 'static', dirs_exist_ok=True)
    page = out / 'index.html'
    html = environment.get_template('report.html.j2').render(context)
    page.write_text(html, encoding='utf-8')
    return page
