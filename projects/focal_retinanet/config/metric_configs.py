"""Configs of metrics, of which an evaluator may have several."""

from collections.abc import Iterator, Mapping


def metric_configs(evaluator: object) -> Iterator[Mapping]:
    """Yield the configs of an evaluator's metrics, without those already built.

    Args:
        evaluator: Config of a metric or of a ``MultiDatasetsEvaluator``, or a list of
            metrics; None yields nothing.
    """
    for metric in evaluator if isinstance(evaluator, list | tuple) else [evaluator]:
        if isinstance(metric, Mapping):
            if 'metrics' in metric:
                yield from metric_configs(metric['metrics'])
            else:
                yield metric


def type_name(config: Mapping) -> str:
    """Return the class name that a config's ``type`` stands for, without scope."""
    kind = config.get('type')
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return name.rpartition('.')[2]
