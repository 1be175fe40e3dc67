"""Configs of metrics, of which an evaluator may have several."""

from collections.abc import Iterator, Mapping


def metric_configs(evaluator: object) -> Iterator[Mapping]:
    """The configs of an evaluator's metrics, in order; what is built is left out.

    Args:
        evaluator: config of a metric, of a ``MultiDatasetsEvaluator``, or a list
            of metrics; None gives nothing.
    """
    for metric in evaluator if isinstance(evaluator, list | tuple) else [evaluator]:
        if isinstance(metric, Mapping):
            if 'metrics' in metric:
                yield from metric_configs(metric['metrics'])
            else:
                yield metric


def type_name(config: Mapping) -> str:
    """Name of the class that a config's ``type`` stands for, without its scope."""
    kind = config.get('type')
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return name.rpartition('.')[2]
