"""Annotation files of evaluators, taken from the data sets."""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmengine.config import ConfigDict

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.dataset_configs import inner_datasets
from focal_retinanet.config.metric_configs import metric_configs, type_name
from focal_retinanet.data.check_data import CocoSource, coco_sources


def copy_evaluator(evaluator: Mapping | list) -> Mapping | list:
    """Copy an evaluator's config, so that no two metrics are one object."""
    if isinstance(evaluator, list):
        return [copy.deepcopy(metric) for metric in evaluator]
    evaluator = copy.deepcopy(evaluator)
    if isinstance(evaluator.get('metrics'), list):
        evaluator['metrics'] = copy_evaluator(evaluator['metrics'])
    return evaluator


def coco_metrics(
    evaluator: object, dataset: Mapping | None
) -> Iterator[tuple[Mapping, Mapping | None]]:
    """Yield the configs of an evaluator's COCO metrics, each with its data set's.

    Args:
        evaluator: Config of a metric, of a ``MultiDatasetsEvaluator``, whose
            metrics have a data set each, or a list of metrics.
        dataset: Config of the data set, or None.
    """
    metrics = list(metric_configs(evaluator))
    datasets = [dataset] * len(metrics)
    if isinstance(evaluator, Mapping) and 'metrics' in evaluator and dataset:
        parts = list(inner_datasets(dataset))
        if len(parts) == len(metrics):
            datasets = parts
    for metric, own_dataset in zip(metrics, datasets, strict=True):
        if type_name(metric) == 'CocoMetric':
            yield metric, own_dataset


def name_ann_files(evaluator: object, dataset: Mapping | None, key: str) -> None:
    """Give COCO metrics without ``ann_file`` the file of their data set.

    Args:
        evaluator: Config of the evaluator, which is changed.
        dataset: Config of its data set.
        key: Name of the evaluator in the config.

    Raises:
        UserError: The data set has several files.
    """
    for metric, own_dataset in coco_metrics(evaluator, dataset):
        if metric.get('ann_file') is not None or _packs_instances(own_dataset):
            continue
        files = {str(source.ann_file) for source in coco_sources(own_dataset)}
        if len(files) > 1:
            raise UserError(
                f'{key} names no ann_file, and its data set has {len(files)}: '
                f'{", ".join(sorted(files))}; name one that has the images of all of '
                "them, or evaluate each by itself with type='MultiDatasetsEvaluator'"
            )
        if files:
            metric['ann_file'] = files.pop()


def sources_to_evaluate(
    evaluator: object, dataset: ConfigDict | None
) -> list[CocoSource]:
    """Return what a data set reads; boxes are needed only if a metric reads them.

    Args:
        evaluator: Config of the evaluator, with its ``ann_file``.
        dataset: Config of its data set.
    """
    needing = {
        Path(metric['ann_file'])
        for metric, _ in coco_metrics(evaluator, dataset)
        if metric.get('ann_file') and not metric.get('format_only')
    }
    has_other_metrics = not any(coco_metrics(evaluator, dataset))
    return [
        source._replace(needs_boxes=has_other_metrics or source.ann_file in needing)
        for source in coco_sources(dataset)
    ]


def _packs_instances(dataset: Mapping | None) -> bool:
    """Return whether samples bring the objects, from which mmdet makes a file."""
    return any(
        'instances' in (step.get('meta_keys') or ())
        for part in inner_datasets(dataset)
        for step in part.get('pipeline') or []
    )
