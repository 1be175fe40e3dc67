"""Ground truth of an annotation file, and the common one of several runs."""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmdet.datasets.api_wrappers import COCO

from focal_retinanet.cli.errors import UserError
from focal_retinanet.cli.naming import few
from focal_retinanet.data.coco_check import check_coco
from focal_retinanet.data.coco_file import (
    CocoFileError,
    as_coco,
    prepare_coco,
    read_coco,
)
from focal_retinanet.evaluation.runs import Model, Run

#: Detections of a class in an image that COCO's AP counts, the best ones.
MOST_DETECTIONS = 100


@dataclass(frozen=True)
class GroundTruth:
    """Objects that detectors are compared to.

    Attributes:
        ann_file: Path of the COCO JSON.
        coco: Content of the file.
        classes: Names of the categories that count, by their ids in rising order.
    """

    ann_file: str
    coco: COCO
    classes: dict[int, str]


def read_ground_truth(
    models: Sequence[Model],
    ann_file: str | Path | None = None,
    warn: Callable[[str], None] = warnings.warn,
) -> GroundTruth:
    """Read the ground truth of models and check it against their detections.

    Args:
        models: Models with detections.
        ann_file: Path of the COCO JSON (default: that of the models' configs).
        warn: Function that gets a line for each part of the file that is left out, and
            for what else the numbers do not show.

    Raises:
        UserError: There is no ground truth, or it has errors or no objects; or the
            models have different ground truths or classes; or detections have ids
            that it does not have, or are of a part of its images.
    """
    runs = [run for model in models for run in model.runs]
    for note in (run.note for run in runs if run.note is not None):
        warn(note)
    if ann_file is None:
        for run in runs:
            _check_is_whole(run)
    ann_file = str(ann_file) if ann_file is not None else _common_ann_file(runs)
    coco = load_coco(ann_file, warn=warn)
    cat_ids = _category_ids(runs, coco, ann_file)
    if not any(coco.loadAnns(coco.getAnnIds(catIds=cat_ids, iscrowd=False))):
        raise UserError(f'{ann_file} has no object to find')
    for run in runs:
        _check_ids(run, coco, ann_file)
    if crowded := describe_crowded(coco):
        warn(f'{ann_file}: {crowded}')
    classes = {cat_id: coco.cats[cat_id]['name'] for cat_id in cat_ids}
    return GroundTruth(ann_file, coco, classes)


def describe_crowded(coco: COCO) -> str | None:
    """Say which images have more objects than COCO's evaluation can find, if any."""
    counts = Counter(
        (a['image_id'], a['category_id'])
        for a in coco.anns.values()
        if not a.get('iscrowd')
    )
    images = {image for (image, _), count in counts.items() if count > MOST_DETECTIONS}
    if not images:
        return None
    names = [coco.imgs[image]['file_name'] for image in sorted(images)]
    return (
        f'{len(images)} images have more than {MOST_DETECTIONS} objects of a class, such '
        f"as {names[0]}. COCO's evaluation counts the best {MOST_DETECTIONS} detections "
        'of a class in an image, so that AP and recall cannot reach 100 %'
    )


def load_coco(
    ann_file: str | Path,
    needs_boxes: bool = True,
    warn: Callable[[str], None] = lambda line: None,
) -> COCO:
    """Read an annotation file, check it, and prepare it by :func:`prepare_coco`.

    Args:
        ann_file: Path of the COCO JSON.
        needs_boxes: Whether a file without boxes is an error.
        warn: Function that gets a line for each part of the file that is left out.

    Raises:
        UserError: The file has an error.
    """
    try:
        content = read_coco(ann_file, needs_boxes)
    except CocoFileError as error:
        raise UserError(str(error)) from error
    return as_coco(check_and_prepare(content, ann_file, needs_boxes, warn))


def check_and_prepare(
    content: dict,
    ann_file: str | Path,
    needs_boxes: bool = True,
    warn: Callable[[str], None] = lambda line: None,
) -> dict:
    """Check the content of an annotation file, and prepare it in place.

    Raises:
        UserError: The content has an error.
    """
    report = check_coco(ann_file, coco=content, needs_boxes=needs_boxes)
    if report.errors:
        raise UserError('\n       '.join(report.errors))
    for line in report.warnings:
        warn(line)
    return prepare_coco(content)


def _check_is_whole(run: Run) -> None:
    """Raise an error if the config tests a part of the images of its file."""
    if run.indices is not None:
        raise UserError(
            f'{run.path} was evaluated on a part of its images '
            f'({run.split}_dataloader.dataset.indices), so the others would count as '
            'missed: test it without indices, or name the file of the part by '
            '--ann-file'
        )


def _common_ann_file(runs: Sequence[Run]) -> str:
    """The one annotation file of all configs."""
    files = {os.path.abspath(run.ann_file) for run in runs if run.ann_file}
    if not files:
        raise UserError(
            'files of detections do not name their ground truth, and there is no '
            'work directory among them: name it by --ann-file'
        )
    if len(files) > 1:
        raise UserError(
            'the runs have different ground truths, name one by --ann-file:\n'
            + '\n'.join(sorted(files))
        )
    return os.path.relpath(files.pop())


def _category_ids(runs: Sequence[Run], coco: COCO, ann_file: str) -> list[int]:
    """Category ids of the configs' classes, or of all categories."""
    named = {tuple(run.classes) for run in runs if run.classes is not None}
    if len(named) > 1:
        lists = '\n'.join(map(str, sorted(named)))
        raise UserError(f'the runs have different classes, so no common AP:\n{lists}')
    if not named:
        return sorted(coco.cats)
    classes = named.pop()
    ids = {category['name']: cat_id for cat_id, category in coco.cats.items()}
    missing = [name for name in classes if name not in ids]
    if missing:
        raise UserError(
            f'{ann_file} has no category {missing[0]!r} of the runs; it has '
            f'{", ".join(ids)}'
        )
    return sorted(ids[name] for name in classes)


def _check_ids(run: Run, coco: COCO, ann_file: str) -> None:
    for key, known in (('image_id', coco.imgs), ('category_id', coco.cats)):
        unknown = {d[key] for d in run.detections if d[key] not in known}
        if unknown:
            raise UserError(
                f'{run.path} has detections with the {key} {few(sorted(unknown))}, '
                f'which {ann_file} does not have (it has {few(known)}): they belong to '
                'other data or use other ids'
            )
