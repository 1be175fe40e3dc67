"""Built data sets, which may be wrapped in others."""

from collections.abc import Iterator

from torch.utils.data import Dataset


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
