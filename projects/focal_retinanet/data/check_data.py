"""Checks of a config's annotation files while they are loaded."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from logging import Logger
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from mmdet.datasets import CocoDataset
from mmdet.models import RPNHead
from mmdet.registry import DATASETS
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.dist import all_gather_object, get_rank
from mmengine.model import is_model_wrapper
from torch import nn

from focal_retinanet.cli.console import quiet_pycocotools
from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.dataset_configs import classes_of, inner_datasets
from focal_retinanet.config.metric_configs import type_name
from focal_retinanet.data.coco_check import CocoReport, check_coco
from focal_retinanet.data.coco_file import (
    CocoFileError,
    index_coco,
    no_garbage_collection,
    prepare_coco,
    read_coco,
)


class DataError(UserError, ValueError):
    """An annotation file, its images or its classes do not fit together."""


class CocoSource(NamedTuple):
    """The files that a COCO data set reads, by mmengine's rules.

    Attributes:
        ann_file: annotation file.
        img_dir: folder of the images.
        classes: names, or the text that stands for them; None for none.
        color_type: flag with which mmcv reads the images; None if it reads none.
        needs_boxes: Whether the file must have a box.
    """

    ann_file: Path
    img_dir: Path
    classes: tuple | str | None
    color_type: str | None = 'color'
    needs_boxes: bool = True

    def check(self, num_classes: int | None, coco: dict | None = None) -> CocoReport:
        """Return the result of :func:`check_coco` for a head of so many classes."""
        return check_coco(
            self.ann_file,
            self.img_dir,
            self.classes,
            num_classes,
            coco,
            self.needs_boxes,
            self.color_type,
        )


def check_data(sources: Iterable[CocoSource], model: nn.Module, logger: Logger) -> None:
    """Check the files of COCO data sets, see :func:`check_coco`.

    Args:
        sources: files and folders of the data sets.
        model: detector whose head has to fit the number of classes.
        logger: logger of the warnings, one line each.

    Raises:
        DataError: with all errors of all files.
    """
    num_classes = _num_classes(model)
    errors: list[str] = []
    for source in dict.fromkeys(sources):  # each once
        report = source.check(num_classes)
        for warning in report.warnings:
            logger.warning(warning)
        errors += report.errors
    _raise(errors)


@contextmanager
def checked_loading(
    sources: Iterable[CocoSource],
    model: nn.Module,
    logger: Logger,
    checked: set[CocoSource],
) -> Iterator[None]:
    """Check the files of COCO data sets when these are built within the context.

    Each file is parsed once, checked, and then given to mmdet, which fails on many
    mistakes while it builds a data set and names neither file nor cause. In a
    distributed run the first process checks, and all processes raise what any of
    them has found. The data sets get the content that :func:`prepare_coco` returns.
    pycocotools prints nothing.

    Args:
        sources: files and folders of the data sets. Data sets that are not built
            here may be among them; an error comes with the errors of all of them.
        model: detector whose head has to fit the number of classes.
        logger: logger of the warnings, one line each.
        checked: sources that were checked before and are not checked again; the
            sources of this context are added.

    Raises:
        DataError: a file has errors, which are all named, or a filter leaves no
            image.
    """
    by_file: dict[str, list[CocoSource]] = {}
    for source in sources:
        by_file.setdefault(os.path.abspath(source.ann_file), []).append(source)
    num_classes = _num_classes(model)

    class CheckedCOCO(CocoDataset.COCOAPI):
        def __init__(self, annotation_file: str | None = None) -> None:
            mine = by_file.get(os.path.abspath(annotation_file or ''))
            if mine is None:
                super().__init__(annotation_file)
                return
            super().__init__()
            new = [source for source in mine if source not in checked]
            content = _load_together(mine, new, num_classes, logger)
            self.dataset = prepare_coco(content)
            index_coco(self)
            checked.update(new)

    with (
        no_garbage_collection(),
        quiet_pycocotools(),
        mock.patch.object(CocoDataset, 'COCOAPI', CheckedCOCO),
        mock.patch.object(BaseDataset, '_serialize_data', _serialize_images),
    ):
        try:
            yield
        except DataError:
            # Raise the errors of the other files with it.
            others = chain.from_iterable(by_file.values())
            check_data((s for s in others if s not in checked), model, logger)
            raise


_serialize_data = BaseDataset._serialize_data


def _serialize_images(self: BaseDataset):
    """Do as mmengine, which fails in numpy without an image.

    Raises:
        DataError: no image is left.
    """
    if not self.data_list:
        raise DataError(
            f'{self.ann_file}: no image is left by filter_cfg={self.filter_cfg} and '
            f'indices={self._indices}; filter_empty_gt takes out images without an '
            'object of the classes, min_size those with a side of fewer pixels'
        )
    return _serialize_data(self)


def _load_together(
    sources: list[CocoSource],
    new: list[CocoSource],
    num_classes: int | None,
    logger: Logger,
) -> dict:
    """Return a file's content, checked by the first process for the new sources.

    Raises:
        DataError: any process found an error.
    """
    coco, errors = {}, []
    try:
        coco = read_coco(
            sources[0].ann_file, any(source.needs_boxes for source in sources)
        )
    except CocoFileError as error:
        errors.append(str(error))
    else:
        if get_rank() == 0:
            for source in new:
                report = source.check(num_classes, coco)
                for warning in report.warnings:
                    logger.warning(warning)
                errors += report.errors
    _raise(chain.from_iterable(all_gather_object(errors)))
    return coco


def _raise(errors: Iterable[str]) -> None:
    errors = dict.fromkeys(errors)  # each once, in order
    if errors:
        raise DataError('\n       '.join(errors))


def _num_classes(model: nn.Module) -> int | None:
    """Return the number of classes of the detector's last head."""
    model = model.module if is_model_wrapper(model) else model
    model = getattr(model, 'module', model)  # test-time augmentation
    head = getattr(getattr(model, 'roi_head', model), 'bbox_head', None)
    if isinstance(head, list | tuple | nn.ModuleList):  # a cascade
        head = head[-1]
    if isinstance(head, RPNHead):  # object or not, whatever the classes
        return None
    return getattr(head, 'num_classes', None)


def coco_sources(
    dataset: ConfigDict | None, needs_boxes: bool = True
) -> list[CocoSource]:
    """Return what the COCO data sets in a config read from local disk, each once.

    Args:
        dataset: config of a data set, wrapped or not; None gives nothing.
        needs_boxes: Whether each file must have a box.
    """
    sources: dict[CocoSource, None] = {}
    for inner in inner_datasets(dataset):
        kind = inner.type
        kind = DATASETS.get(kind) if isinstance(kind, str) else kind
        if (
            _reads_coco(kind)
            and inner.get('ann_file')
            and not inner.get('backend_args')
        ):
            sources[_source(inner, kind, needs_boxes)] = None
    return list(sources)


def _reads_coco(kind: object) -> bool:
    """Return whether a data set reads its file as CocoDataset does.

    LVIS, Objects365 and panoptic data sets derive from it, but read other keys or
    order the labels otherwise.
    """
    return (
        isinstance(kind, type)
        and issubclass(kind, CocoDataset)
        and kind.load_data_list is CocoDataset.load_data_list
        and kind.parse_data_info is CocoDataset.parse_data_info
        and kind.COCOAPI is CocoDataset.COCOAPI
    )


def _source(
    dataset: ConfigDict, kind: type[CocoDataset], needs_boxes: bool
) -> CocoSource:
    root = Path(dataset.get('data_root') or '')
    metainfo = kind.METAINFO | (dataset.get('metainfo') or {})
    img_dir = (dataset.get('data_prefix') or {}).get('img', '')
    return CocoSource(
        root / dataset.ann_file,
        root / img_dir,
        classes_of(metainfo),
        _color_type(dataset.get('pipeline') or []),
        needs_boxes,
    )


def _color_type(pipeline: list) -> str | None:
    """Return how a pipeline reads images; None if mmcv's transform does not."""
    for step in pipeline:
        if type_name(step) == 'LoadImageFromFile':
            return step.get('color_type', 'color')
    return None
