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
from focal_retinanet.config.dataset_configs import (
    classes_of,
    color_type_of,
    inner_datasets,
)
from focal_retinanet.data.coco_check import check_coco
from focal_retinanet.data.coco_file import (
    CocoFileError,
    index_coco,
    no_garbage_collection,
    prepare_coco,
    read_coco,
)


class DataError(UserError, ValueError):
    """An annotation file does not fit its images or classes."""


class CocoSource(NamedTuple):
    """Files of a COCO data set, and how it reads them.

    Attributes:
        ann_file: Path of the annotation file.
        img_dir: Folder of the images.
        classes: Names of the classes, or an invalid string; None if none are given.
        color_type: Flag with which mmcv reads the images; None if it reads none.
        needs_boxes: Whether there must be a box in the file.
    """

    ann_file: Path
    img_dir: Path
    classes: tuple | str | None
    color_type: str | None = 'color'
    needs_boxes: bool = True


def check_data(sources: Iterable[CocoSource], model: nn.Module, logger: Logger) -> None:
    """Check the files of COCO data sets, see :func:`check_coco`.

    Args:
        sources: Files and folders of the data sets.
        model: Detector whose head must fit the number of classes.
        logger: Logger of the warnings, one line each.

    Raises:
        DataError: There is an error; the message lists all errors of all files.
    """
    num_classes = count_classes(model)
    sources = dict.fromkeys(sources)  # each once
    _raise(chain.from_iterable(_errors_of(x, num_classes, logger) for x in sources))


def _errors_of(
    source: CocoSource,
    num_classes: int | None,
    logger: Logger,
    coco: dict | None = None,
) -> list[str]:
    """Check a source, log its warnings and return its errors."""
    report = check_coco(**source._asdict(), num_classes=num_classes, coco=coco)
    for warning in report.warnings:
        logger.warning(warning)
    return report.errors


@contextmanager
def checked_loading(
    sources: Iterable[CocoSource],
    model: nn.Module,
    logger: Logger,
    checked: set[CocoSource],
) -> Iterator[None]:
    """Check the files of COCO data sets that are built within the context.

    Each file is parsed once and checked before mmdet uses its content, since mmdet
    fails on many mistakes without naming file or cause. The data sets get the content
    as :func:`prepare_coco` returns it. In a distributed run, the first process checks,
    and all processes raise the errors.

    Args:
        sources: Files and folders of the data sets, including those that are built
            elsewhere: an error lists the errors of all sources.
        model: Detector whose head must fit the number of classes.
        logger: Logger of the warnings, one line each.
        checked: Sources to skip, because they were checked before; the sources of
            this context are added.

    Raises:
        DataError: There is an error; the message lists all errors of all files. Or a
            filter leaves no image.
    """
    by_file: dict[str, list[CocoSource]] = {}
    for source in sources:
        by_file.setdefault(os.path.abspath(source.ann_file), []).append(source)
    num_classes = count_classes(model)

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
            # Raises with the errors of the other sources, too.
            others = chain.from_iterable(by_file.values())
            check_data((s for s in others if s not in checked), model, logger)
            raise


_serialize_data = BaseDataset._serialize_data


def _serialize_images(self: BaseDataset):
    """Serialize the images; raise DataError, where numpy would fail, if none is left."""
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
    """Read a file, and check its new sources in the first process.

    Raises:
        DataError: A process has found an error; all processes raise it.
    """
    coco, errors = {}, []
    try:
        needs_boxes = any(source.needs_boxes for source in sources)
        coco = read_coco(sources[0].ann_file, needs_boxes)
    except CocoFileError as error:
        errors.append(str(error))
    else:
        for source in new if get_rank() == 0 else ():
            errors += _errors_of(source, num_classes, logger, coco)
    _raise(chain.from_iterable(all_gather_object(errors)))
    return coco


def _raise(errors: Iterable[str]) -> None:
    errors = dict.fromkeys(errors)  # each once, in order
    if errors:
        raise DataError('\n       '.join(errors))


def count_classes(model: nn.Module) -> int | None:
    """Return the number of classes of the detector's last head."""
    model = model.module if is_model_wrapper(model) else model
    model = getattr(model, 'module', model)  # test-time augmentation
    head = getattr(getattr(model, 'roi_head', model), 'bbox_head', None)
    if isinstance(head, list | tuple | nn.ModuleList):  # a cascade
        head = head[-1]
    if isinstance(head, RPNHead):  # separates objects from background
        return None
    return getattr(head, 'num_classes', None)


def coco_sources(
    dataset: ConfigDict | None, needs_boxes: bool = True
) -> list[CocoSource]:
    """Return the sources of the COCO data sets on local disk, each once.

    Args:
        dataset: Config of a data set, wrapped or not; None gives an empty list.
        needs_boxes: Whether there must be a box in each file.
    """
    sources: dict[CocoSource, None] = {}
    for inner in inner_datasets(dataset):
        kind = inner.type
        kind = DATASETS.get(kind) if isinstance(kind, str) else kind
        backend = (inner.get('backend_args') or {}).get('backend', 'local')
        if backend in ('local', 'disk') and _reads_coco(kind):
            _check_paths(inner, kind)
            root = Path(inner.get('data_root') or '')
            source = CocoSource(
                root / inner.ann_file,
                root / (inner.get('data_prefix') or {}).get('img', ''),
                classes_of(kind.METAINFO | (inner.get('metainfo') or {})),
                color_type_of(inner),
                needs_boxes,
            )
            sources[source] = None
    return list(sources)


def _check_paths(dataset: ConfigDict, kind: type) -> None:
    """Raise UserError unless a data set's config says what to read."""
    if kind.__init__ is not CocoDataset.__init__:  # which may have defaults
        return
    name = f'a {kind.__name__} of the config'
    if not dataset.get('ann_file'):
        raise UserError(f'{name} has no ann_file: name its annotation file')
    if 'img' not in (dataset.get('data_prefix') or {}):
        raise UserError(
            f'{name}, with ann_file={dataset.ann_file!r}, has no data_prefix: name the '
            "folder of its images by data_prefix=dict(img='...')"
        )


def _reads_coco(kind: object) -> bool:
    """Return whether a class reads its file as CocoDataset does.

    Subclasses for LVIS, Objects365 and panoptic data read other keys, or order the
    labels differently.
    """
    return (
        isinstance(kind, type)
        and issubclass(kind, CocoDataset)
        and kind.load_data_list is CocoDataset.load_data_list
        and kind.parse_data_info is CocoDataset.parse_data_info
        and kind.COCOAPI is CocoDataset.COCOAPI
    )
