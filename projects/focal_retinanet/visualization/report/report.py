"""From trained models to a folder of HTML: numbers, charts, galleries, configs."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from mmdet.datasets.api_wrappers import COCO

from focal_retinanet.cli.console import quiet_mmengine
from focal_retinanet.cli.output_dir import check_output_dir
from focal_retinanet.evaluation.detection_errors import (
    ImageDetections,
    classify_detections,
)
from focal_retinanet.evaluation.ground_truth import load_coco
from focal_retinanet.evaluation.runs import Model
from focal_retinanet.evaluation.tables import differences_table, models_table
from focal_retinanet.version import __version__
from focal_retinanet.visualization.report.charts import (
    draw_differences,
    draw_speed_accuracy,
)
from focal_retinanet.visualization.report.comparing import (
    Compared,
    compare_what_can_be,
    read_models,
)
from focal_retinanet.visualization.report.dataset_facts import dataset_facts
from focal_retinanet.visualization.report.gallery import (
    BOX_KINDS,
    GROUPS,
    LOWEST_SCORE,
    MOST_DETECTIONS,
    PAGE,
    group_of,
    worst_images,
    write_gallery,
)
from focal_retinanet.visualization.report.sections import (
    chart,
    configs_section,
    curves_section,
    dataset_section,
    errors_section,
    loss_section,
    precision_recall_section,
)
from focal_retinanet.visualization.report.thumbnails import Thumbnails

HERE = Path(__file__).parent
#: What a report writes besides index.html.
FOLDERS = ('charts', 'data', 'images', 'static')
#: In index.html, so that nobody else's page is taken for an earlier report.
GENERATOR = 'focal_retinanet tools/report.py'


@dataclass(frozen=True)
class GroundTruth:
    """Images and objects, and the models that were evaluated on them.

    Attributes:
        ann_file: COCO JSON.
        classes: names of those that count, by category id.
        runs: of each model and seed, what its detections are.
    """

    ann_file: str
    coco: COCO
    classes: dict[int, str]
    runs: dict[str, list[list[ImageDetections]]]

    @property
    def first_runs(self) -> dict[str, list[ImageDetections]]:
        return {name: runs[0] for name, runs in self.runs.items()}


def write_report(
    paths: Sequence[str | Path],
    out: str | Path,
    ann_file: str | None = None,
    reference: str | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
    img_dir: str | Path | None = None,
    max_images: int = 200,
    overwrite: bool = False,
    progress: Callable[[Iterable, str], Iterable] = lambda rows, _: rows,
    warn: Callable[[str], None] = print,
) -> Path:
    """Write a report that opens from disk, without a server or a network.

    Args:
        paths: of models, as ``find_models`` takes them.
        out: folder to write.
        ann_file, reference, num_resamples, seed, progress: as ``compare`` has them.
        img_dir: folder of the images; that of the configs by default.
        max_images: in the gallery, the worst ones.
        overwrite: write into a folder that has files.
        warn: is given what is not in the report, and why; the page says it too.

    Returns:
        The page, ``out/index.html``.

    Raises:
        UserError: there are numbers of no model, no such reference, or the folder
            has files already.
    """
    out = Path(out)
    warnings: list[str] = []

    def note(line: str) -> None:
        warnings.append(line)
        warn(line)

    check_output_dir(out, overwrite)
    with quiet_mmengine():
        models, left_out = read_models(paths)
    for line in left_out:
        note(f'left out {line}')
    for run in (run for model in models for run in model.runs):
        if not run.detections:
            note(f'{run.path} has no detection at all: its AP is 0')
    configs = configs_section(models)
    compared = compare_what_can_be(
        models, ann_file, reference, num_resamples, seed, progress=progress, warn=note
    )
    for line in compared.left_out:
        note(f'left out {line}')
    truths = _ground_truths(compared, progress)

    _clear_folder(out)
    thumbnails = Thumbnails(out / 'images')
    context = dict(
        generator=GENERATOR,
        version=__version__,
        time=datetime.now().astimezone().strftime('%Y-%m-%d %H:%M'),
        names=[model.name for model in compared.models],
        **_numbers_section(out, compared),
        truths=[
            _truth_section(
                out,
                number,
                truth,
                compared.models,
                thumbnails,
                img_dir,
                max_images,
                progress,
            )
            for number, truth in enumerate(truths)
        ],
        curves=curves_section(out, paths),
        losses=loss_section(out, compared.models),
        configs=configs,
        box_kinds=[(kind, group_of(kind)) for kind in BOX_KINDS],
        groups=GROUPS,
        page=PAGE,
        lowest_score=LOWEST_SCORE,
        most_detections=MOST_DETECTIONS,
        warnings=warnings,
    )
    if thumbnails.missing:
        note(
            f'{len(thumbnails.missing)} image files were not found, the first is '
            f'{thumbnails.missing[0]}: the gallery shows their boxes alone; name their '
            'folder by --img-dir'
        )
    return _render(out, context)


def _clear_folder(out: Path) -> None:
    """Without the files of an earlier report; others stay."""
    out.mkdir(parents=True, exist_ok=True)
    page = out / 'index.html'
    if page.exists() and GENERATOR in page.read_text(encoding='utf-8'):
        for name in FOLDERS:
            shutil.rmtree(out / name, ignore_errors=True)


def _ground_truths(
    compared: Compared, progress: Callable[[Iterable, str], Iterable]
) -> list[GroundTruth]:
    """One for all models that were compared; without, one a file and classes."""
    truths: dict[tuple, GroundTruth] = {}
    for model in progress(compared.models, 'kinds of errors'):
        numbers = compared.alone[model.name]
        key = (numbers['ann_file'], *numbers['categories'])
        if key not in truths:
            coco = load_coco(numbers['ann_file'])
            names = {cat_id: coco.cats[cat_id]['name'] for cat_id in sorted(coco.cats)}
            classes = {i: n for i, n in names.items() if n in numbers['categories']}
            truths[key] = GroundTruth(numbers['ann_file'], coco, classes, {})
        truth = truths[key]
        truth.runs[model.name] = [
            classify_detections(truth.coco, run.detections, list(truth.classes))
            for run in model.runs
        ]
    return list(truths.values())


def _numbers_section(out: Path, compared: Compared) -> dict:
    """The tables, Fig. 2, and why there is none of all models."""
    common = compared.common
    comparisons = [common] if common else list(compared.alone.values())
    rows = [row for comparison in comparisons for row in comparison['models']]
    figure_2 = gaps = None
    if common:
        figure_2 = draw_speed_accuracy(rows, out / 'charts' / 'speed_accuracy.svg')
    if common and common['differences']:
        gaps = draw_differences(
            common['differences'], out / 'charts' / 'differences.svg'
        )
    return dict(
        why_not=compared.why_not,
        comparisons=[(c, models_table(c)) for c in comparisons],
        differences=differences_table(common) if gaps else None,
        differences_chart=gaps
        and chart(out, gaps, 'Differences of AP with intervals, as in the table'),
        figure_2=figure_2
        and chart(out, figure_2, 'AP against time an image; numbers as in the table'),
        not_timed=[row['name'] for row in rows if not row['images_per_second']],
    )


def _truth_section(
    out: Path,
    number: int,
    truth: GroundTruth,
    models: Sequence[Model],
    thumbnails: Thumbnails,
    img_dir: str | Path | None,
    max_images: int,
    progress: Callable[[Iterable, str], Iterable],
) -> dict:
    """Everything that is of one ground truth: curves, errors, gallery, facts."""
    first_runs = truth.first_runs
    shown = worst_images(list(first_runs.values()))[:max_images]
    folders = [m.runs[0].img_dir for m in models if m.name in truth.runs]
    folder = Path(img_dir) if img_dir else next((f for f in folders if f), None)
    names = {}
    for img_id in progress(shown, 'images'):
        image = truth.coco.imgs[img_id]
        size = (image['width'], image['height'])
        names[img_id] = folder and thumbnails.add(folder / image['file_name'], size)
    galleries = []
    for index, (name, images) in enumerate(first_runs.items()):
        data = f'gallery-{number}-{index}'
        by_id = {image.image_id: image for image in images}
        write_gallery(
            out / 'data',
            data,
            [by_id[img_id] for img_id in shown],
            truth.coco.imgs,
            names,
            list(truth.classes),
        )
        galleries.append(dict(data=data, name=name))
    facts = dataset_facts(truth.coco, list(truth.classes))
    return dict(
        ann_file=truth.ann_file,
        names=list(truth.runs),
        precision_recall=precision_recall_section(
            out, number, first_runs, truth.classes
        ),
        errors=errors_section(out, number, truth.runs),
        galleries=galleries,
        classes=list(truth.classes.values()),
        shown=len(shown),
        without_image=sum(name is None for name in names.values()),
        folder=folder,
        facts=facts,
        charts=dataset_section(out, number, facts),
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
