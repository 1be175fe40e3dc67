"""Ground truth: of a file, and the one that runs have in common."""

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmdet.datasets.api_wrappers import COCO

from focal_retinanet.cli.errors import UserError
from focal_retinanet.data.coco_check import check_coco
from focal_retinanet.data.coco_file import (
    CocoFileError,
    as_coco,
    prepare_coco,
    read_coco,
)
from focal_retinanet.data.naming import few
from focal_retinanet.evaluation.runs import Model, Run


@dataclass(frozen=True)
class GroundTruth:
    """Objects to be found.

    Attributes:
        ann_file: in COCO's format.
        coco: its content.
        classes: names of the categories that count, by their ids, which rise.
    """

    ann_file: str
    coco: COCO
    classes: dict[int, str]


def read_ground_truth(
    models: Sequence[Model],
    ann_file: str | Path | None = None,
    warn: Callable[[str], None] = warnings.warn,
) -> GroundTruth:
    """That of the models' configs, or of a file.

    Args:
        models: models whose detections are compared to it.
        ann_file: path of the COCO JSON; that of the models' configs by default.
        warn: function that is given what is left out of the file, a line each.

    Raises:
        UserError: there is no ground truth, or an error in it; the models have other ground truths or other classes, or
            detections are not of these images; or there is no object.
    """
    ann_file = str(ann_file) if ann_file is not None else _common_ann_file(models)
    coco = load_coco(ann_file, warn=warn)
    cat_ids = _category_ids(models, coco, ann_file)
    if not any(coco.loadAnns(coco.getAnnIds(catIds=cat_ids, iscrowd=False))):
        raise UserError(f'{ann_file} has no object to find')
    for model in models:
        for run in model.runs:
            _check_ids(run, coco, ann_file)
    classes = {cat_id: coco.cats[cat_id]['name'] for cat_id in cat_ids}
    return GroundTruth(ann_file, coco, classes)


def load_coco(
    ann_file: str | Path,
    needs_boxes: bool = True,
    warn: Callable[[str], None] = lambda line: None,
) -> COCO:
    """A checked annotation file, with what :func:`prepare_coco` leaves in.

    Args:
        ann_file: path of the COCO JSON.
        needs_boxes: whether there has to be a box in it.
        warn: function that is given what is left out of it, a line each.

    Raises:
        UserError: there is an error in the file.
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
    """The content of an annotation file, checked and prepared, in place.

    Raises:
        UserError: there is an error in it.
    """
    report = check_coco(ann_file, coco=content, needs_boxes=needs_boxes)
    if report.errors:
        raise UserError('\n       '.join(report.errors))
    for line in report.warnings:
        warn(line)
    return prepare_coco(content)


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


def _check_ids(run: Run, coco: COCO, ann_file: str) -> None:
    for key, known in (('image_id', coco.imgs), ('category_id', coco.cats)):
        unknown = {d[key] for d in run.detections if d[key] not in known}
        if unknown:
            raise UserError(
                f'{run.path} has detections with the {key} {few(sorted(unknown))}, '
                f'which {ann_file} does not have (it has {few(known)}): they are for '
                'other data, or use other ids'
            )
