"""Built data sets, which may be wrapped in others."""

from collections.abc import Iterator

from mmdet.datasets import CocoDataset
from torch.utils.data import Dataset

from focal_retinanet.data.check_data import DataError


def unite_metainfo(dataset: Dataset) -> None:
    """Give a ``ConcatDataset`` whose parts differ in metainfo that of the first part.

    mmdet gives it a list of them, which neither a metric nor a detector can read.

    Raises:
        DataError: Parts in COCO format have other classes, so that labels would be
            mixed up.
    """
    if not isinstance(getattr(dataset, 'metainfo', None), list | tuple):
        return
    parts = [x for x in inner_built_datasets(dataset) if isinstance(x, CocoDataset)]
    classes = {tuple(part.metainfo.get('classes') or ()): part for part in parts}
    if len(classes) > 1:
        raise DataError(
            'the parts of a data set must have the same classes in the same order: '
            + '; '.join(
                f'{part.ann_file} has {names}' for names, part in classes.items()
            )
            + '. Set the same metainfo=dict(classes=...) in all of them'
        )
    dataset._metainfo = dict(dataset.metainfo[0])


def inner_built_datasets(dataset: Dataset) -> Iterator[Dataset]:
    """Yield the data sets inside of any wrappers, in order.

    The counterpart of :func:`focal_retinanet.config.dataset_configs.inner_datasets`.

    Args:
        dataset: Data set, or a ``ConcatDataset``, ``RepeatDataset``,
            ``ClassBalancedDataset``, ... of others.
    """
    wrapped = getattr(dataset, 'dataset', None)
    parts = [wrapped] if isinstance(wrapped, Dataset) else []
    parts += getattr(dataset, 'datasets', None) or []
    if not parts:
        yield dataset
    for part in parts:
        yield from inner_built_datasets(part)
