"""The ground truth that runs have in common."""

import contextlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pycocotools.coco import COCO

from focal_retinanet.data.coco_check import CocoFileError, check_coco, read_coco
from focal_retinanet.engine.errors import UserError
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
    models: Sequence[Model], ann_file: str | Path | None = None
) -> GroundTruth:
    """That of the models' configs, or of a file.

    Raises:
        FileNotFoundError: there is no ground truth.
        UserError: the models have other ground truths or other classes, or
            detections are not of these images; or there is no object.
    """
    ann_file = str(ann_file) if ann_file is not None else _common_ann_file(models)
    coco = _load(ann_file)
    cat_ids = _category_ids(models, coco, ann_file)
    if not any(coco.loadAnns(coco.getAnnIds(catIds=cat_ids, iscrowd=False))):
        raise UserError(f'{ann_file} has no object to find')
    for model in models:
        for run in model.runs:
            _check_images(run, coco, ann_file)
    classes = {cat_id: coco.cats[cat_id]['name'] for cat_id in cat_ids}
    return GroundTruth(ann_file, coco, classes)


def _load(ann_file: str) -> COCO:
    """A checked annotation file as pycocotools has it, parsed once for both."""
    try:
        content = read_coco(ann_file)
    except CocoFileError as error:
        raise UserError(str(error)) from error
    errors = check_coco(ann_file, coco=content).errors
    if errors:
        raise UserError('\n'.join(errors))
    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):  # what pycocotools prints
        coco.createIndex()
    return coco


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
