"""Data sets' configs, which may be wrapped in others."""

from collections.abc import Iterator, Mapping


def inner_datasets(dataset: Mapping | None) -> Iterator[Mapping]:
    """The data sets' own configs, in order, out of any wrappers.

    Args:
        dataset: config of a data set, or of a ``ConcatDataset``,
            ``RepeatDataset``, ``ClassBalancedDataset``, ... of others; None gives
            nothing.
    """
    if not dataset:
        return
    if 'dataset' not in dataset and 'datasets' not in dataset:
        yield dataset
    for part in dataset.get('datasets') or []:
        yield from inner_datasets(part)
    yield from inner_datasets(dataset.get('dataset'))
