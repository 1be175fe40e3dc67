"""Looks through the annotation files of a config as they are loaded."""

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
from mmengine.dist import all_gather_object, get_rank
from mmengine.fileio import list_from_file
from mmengine.model import is_model_wrapper
from torch import nn

from focal_retinanet.data.coco_check import CocoFileError, check_coco, read_coco
from focal_retinanet.data.dataset_configs import inner_datasets
from focal_retinanet.engine.errors import UserError


class DataError(UserError, ValueError):
    """An annotation file, its images or its classes do not fit together."""


class CocoSource(NamedTuple):
    """What a COCO data set reads, as mmengine is going to read it.

    Attributes:
        ann_file: annotation file.
        img_dir: folder of the images.
        classes: names, or the text that stands for them; None for none.
    """

    ann_file: Path
    img_dir: Path
    classes: tuple | str | None


def check_data(
    dataloaders: Iterable[ConfigDict | None], model: nn.Module, logger: Logger
) -> None:
    """Check every COCO data set of some data loaders, see :func:`check_coco`.

    Args:
        dataloaders: configs of data loaders; None is passed over.
        model: detector whose head has to fit the number of classes.
        logger: where warnings go, one line each.

    Raises:
        DataError: with all errors of all files.
    """
    num_classes = _num_classes(model)
    errors: list[str] = []
    for source in coco_sources(dataloaders):
        report = check_coco(*source, num_classes)
        for warning in report.warnings:
            logger.warning(warning)
        errors += report.errors
    _raise(errors)


@contextmanager
def checked_loading(
    dataloaders: Iterable[ConfigDict | None],
    model: nn.Module,
    logger: Logger,
    checked: set[CocoSource],
) -> Iterator[None]:
    """Check the files of COCO data sets when these are built within the context.

    Each file is checked between its parsing and all that mmdet makes of it,
    because mmdet fails on many mistakes while building, and then names neither
    file nor cause. It is parsed once for both. In a distributed run the first
    process checks, and all of them raise what it or another one has found.

    Args:
        dataloaders: configs of data loaders, those not built here among them:
            if there is an error, the errors of all of them are raised.
        model: detector whose head has to fit the number of classes.
        logger: where warnings go, one line each.
        checked: what was checked before is not checked again; is added to.

    Raises:
        DataError: with all errors of all files.
    """
    dataloaders = list(dataloaders)
    num_classes = _num_classes(model)
    to_check: dict[str, list[CocoSource]] = {}
    for source in coco_sources(dataloaders):
        if source not in checked:
            to_check.setdefault(os.path.abspath(source.ann_file), []).append(source)

    class CheckedCOCO(CocoDataset.COCOAPI):
        def __init__(self, annotation_file: str | None = None) -> None:
            sources = to_check.pop(os.path.abspath(annotation_file or ''), None)
            if sources is None:
                super().__init__(annotation_file)
                return
            super().__init__()
            self.dataset = _load_together(sources, num_classes, logger)
            self.createIndex()
            self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs
            checked.update(sources)

    with mock.patch.object(CocoDataset, 'COCOAPI', CheckedCOCO):
        try:
            yield
        except DataError:
            check_data(dataloaders, model, logger)  # says the others' errors too
            raise


def _load_together(
    sources: list[CocoSource], num_classes: int | None, logger: Logger
) -> dict:
    """A file's content, checked by the first process.

    Raises:
        DataError: in every process, whichever found an error.
    """
    ann_file = sources[0].ann_file
    coco, errors = {}, []
    try:
        coco = read_coco(ann_file)
    except CocoFileError as error:
        errors.append(str(error))
    else:
        if get_rank() == 0:
            for source in sources:
                report = check_coco(*source, num_classes, coco)
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
    """Number of classes of the detector's last head."""
    model = model.module if is_model_wrapper(model) else model
    model = getattr(model, 'module', model)  # test-time augmentation
    head = getattr(getattr(model, 'roi_head', model), 'bbox_head', None)
    if isinstance(head, list | tuple | nn.ModuleList):  # a cascade
        head = head[-1]
    if isinstance(head, RPNHead):  # object or not, whatever the classes
        return None
    return getattr(head, 'num_classes', None)


def coco_sources(dataloaders: Iterable[ConfigDict | None]) -> list[CocoSource]:
    """What the COCO data sets of some data loaders read on local disk, each once."""
    sources: dict[CocoSource, None] = {}
    for dataloader in dataloaders:
        for dataset in inner_datasets(dataloader.dataset if dataloader else None):
            kind = dataset.type
            kind = DATASETS.get(kind) if isinstance(kind, str) else kind
            if (
                _reads_coco(kind)
                and dataset.get('ann_file')
                and not dataset.get('backend_args')
            ):
                sources[_source(dataset, kind)] = None
    return list(sources)


def _reads_coco(kind: object) -> bool:
    """Whether a data set reads its file as CocoDataset does; LVIS, Objects365 and
    panoptic ones derive from it, but read other keys or order the labels otherwise."""
    return (
        isinstance(kind, type)
        and issubclass(kind, CocoDataset)
        and kind.load_data_list is CocoDataset.load_data_list
        and kind.parse_data_info is CocoDataset.parse_data_info
        and kind.COCOAPI is CocoDataset.COCOAPI
    )


def _source(dataset: ConfigDict, kind: type[CocoDataset]) -> CocoSource:
    root = Path(dataset.get('data_root') or '')
    metainfo = kind.METAINFO | (dataset.get('metainfo') or {})
    classes = metainfo.get('classes')
    if isinstance(classes, str) and Path(classes).is_file():
        classes = list_from_file(classes)
    if classes is not None and not isinstance(classes, str):
        classes = tuple(classes)
    img_dir = (dataset.get('data_prefix') or {}).get('img', '')
    return CocoSource(root / dataset.ann_file, root / img_dir, classes)
