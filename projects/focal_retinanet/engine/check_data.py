"""Looks through the annotation files of a config before anything is built."""

from collections.abc import Iterable, Iterator
from logging import Logger
from pathlib import Path

from mmdet.datasets import CocoDataset
from mmdet.models import RPNHead
from mmdet.registry import DATASETS
from mmengine.config import ConfigDict
from mmengine.fileio import list_from_file
from mmengine.model import is_model_wrapper
from torch import nn

from focal_retinanet.data.coco_check import check_coco
from focal_retinanet.engine.errors import UserError


class DataError(UserError, ValueError):
    """An annotation file, its images or its classes do not fit together."""


def check_data(
    dataloaders: Iterable[ConfigDict | None], model: nn.Module, logger: Logger
) -> None:
    """Check every COCO data set of some data loaders, see :func:`check_coco`.

    Before they are built, because mmdet fails on many mistakes while building,
    and then names neither file nor cause.

    Args:
        dataloaders: configs of data loaders; None is passed over.
        model: detector whose head has to fit the number of classes.
        logger: where warnings go, one line each.

    Raises:
        DataError: with all errors of all files.
    """
    num_classes = _num_classes(model)
    errors: dict[str, None] = {}  # each once, in order
    seen = []
    for dataloader in dataloaders:
        for dataset in _coco_datasets(dataloader.dataset if dataloader else None):
            arguments = _paths_and_classes(dataset)
            if arguments in seen:
                continue
            seen.append(arguments)
            report = check_coco(*arguments, num_classes)
            for warning in report.warnings:
                logger.warning(warning)
            errors.update(dict.fromkeys(report.errors))
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


def _coco_datasets(dataset: ConfigDict | None) -> Iterator[ConfigDict]:
    """COCO data sets on local disk in a config, out of any wrappers."""
    if dataset is None:
        return
    for part in dataset.get('datasets', []):  # ConcatDataset
        yield from _coco_datasets(part)
    if 'dataset' in dataset:  # RepeatDataset, ClassBalancedDataset, ...
        yield from _coco_datasets(dataset.dataset)
    kind = DATASETS.get(dataset.type) if isinstance(dataset.type, str) else dataset.type
    if (
        _reads_coco(kind)
        and dataset.get('ann_file')
        and not dataset.get('backend_args')
    ):
        yield dataset


def _reads_coco(kind: object) -> bool:
    """Whether a data set reads its file as CocoDataset does; LVIS, Objects365 and
    panoptic ones derive from it, but read other keys or order the labels otherwise."""
    return (
        isinstance(kind, type)
        and issubclass(kind, CocoDataset)
        and kind.load_data_list is CocoDataset.load_data_list
        and kind.parse_data_info is CocoDataset.parse_data_info
    )


def _paths_and_classes(dataset: ConfigDict) -> tuple[Path, Path, tuple | str | None]:
    """Annotation file, image folder and classes, as mmengine will read them."""
    root = Path(dataset.get('data_root') or '')
    kind = DATASETS.get(dataset.type) if isinstance(dataset.type, str) else dataset.type
    metainfo = kind.METAINFO | (dataset.get('metainfo') or {})
    classes = metainfo.get('classes')
    if isinstance(classes, str) and Path(classes).is_file():
        classes = list_from_file(classes)
    if classes is not None and not isinstance(classes, str):
        classes = tuple(classes)
    img_dir = (dataset.get('data_prefix') or {}).get('img', '')
    return root / dataset.ann_file, root / img_dir, classes
