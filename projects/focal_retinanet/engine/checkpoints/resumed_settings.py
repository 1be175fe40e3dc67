"""What a resumed run has from its checkpoint, and what its config changes."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.optim import BaseOptimWrapper

from focal_retinanet.cli.naming import few

# Attributes of schedulers that their configs set and that training does not change.
_OF_SCHEDULERS = (
    'param_name',
    'begin',
    'end',
    'by_epoch',
    'T_max',
    'eta_min',
    'eta_min_ratio',
    'milestones',
    'gamma',
    'step_size',
    'factor',
    'start_factor',
    'end_factor',
    'power',
    'total_steps',
    'periods',
    'restart_weights',
)
# Settings of an optimizer's groups. What a schedule changes has its first value under
# another name, such as initial_lr.
_OF_OPTIMIZERS = ('lr', 'weight_decay', 'momentum', 'betas', 'eps', 'nesterov')


def describe_other_settings(
    checkpoint: Mapping[str, Any], optim_wrapper: Any, schedulers: Any, file: str
) -> str | None:
    """Say which settings of the config a resumed run does not follow, if there are any.

    A checkpoint holds the optimizer's settings and the schedule, and mmengine puts
    them in place of the config's without a word.

    Args:
        checkpoint: Loaded checkpoint.
        optim_wrapper: Optimizer of the run, as the config has it. Several optimizers
            are not compared.
        schedulers: Schedulers of the run, as the config has them. Those of several
            optimizers are not compared.
        file: Path of the checkpoint, for the text.
    """
    other: list[str] = []
    if isinstance(optim_wrapper, BaseOptimWrapper):
        other += _of_groups(checkpoint.get('optimizer'), optim_wrapper.param_groups)
    if isinstance(schedulers, Sequence):
        other += _of_schedules(checkpoint.get('param_schedulers'), schedulers)
    if not other:
        return None
    return (
        f'the resumed run keeps the settings of {file}, not those of its config: '
        f'{few(dict.fromkeys(other), 4, "; ")}. To train further with the '
        f'settings of the config, start a new run with --weights {file}'
    )


def describe_changed_settings(
    checkpoint: Mapping[str, Any], cfg: Mapping[str, Any], file: str
) -> str | None:
    """Say which settings of the model and the batches a config changes in a run.

    Args:
        checkpoint: Loaded checkpoint, with the text of its config as mmengine saves it.
        cfg: Config of the resumed run.
        file: Path of the checkpoint, for the text.
    """
    saved = _assignments(checkpoint.get('meta', {}).get('cfg'))
    if not saved:
        return None
    before, now = _compared(saved), _compared(cfg)
    changed = [
        f'{key} was {before.get(key)}, is {now.get(key)}'
        for key in dict.fromkeys([*before, *now])
        if before.get(key) != now.get(key)
    ]
    if not changed:
        return None
    return (
        f'the config differs from that of {file}, and the run goes on with its own: '
        f'{few(changed, 4, "; ")}'
    )


def _compared(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that change what a run learns, by their dotted keys."""
    batch_size = (cfg.get('train_dataloader') or {}).get('batch_size')
    settings = {'train_dataloader.batch_size': batch_size} if batch_size else {}
    return settings | {
        key: value
        for key, value in _flat(cfg.get('model'), 'model').items()
        # A resumed run is not initialised.
        if not {'init_cfg', 'pretrained'} & set(key.split('.'))
    }


def _flat(value: Any, key: str) -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        parts = [_flat(part, f'{key}.{name}') for name, part in value.items()]
    elif isinstance(value, list | tuple) and value:
        parts = [_flat(part, f'{key}.{index}') for index, part in enumerate(value)]
    else:
        if key.endswith('.type'):
            value = _class_name(value)
        return {key: list(value) if isinstance(value, tuple) else value}
    return {name: leaf for part in parts for name, leaf in part.items()}


def _class_name(kind: Any) -> Any:
    """Return package and name of a class, which text may name by another module."""
    if isinstance(kind, type):
        kind = f'{kind.__module__}.{kind.__qualname__}'
    if not isinstance(kind, str) or '.' not in kind:
        return kind
    return f'{kind.partition(".")[0]}.{kind.rpartition(".")[2]}'


def _assignments(text: Any) -> dict[str, Any]:
    """Return the values that a config's text assigns, without running it."""
    try:
        body = ast.parse(text).body if isinstance(text, str) else []
        return {
            statement.targets[0].id: _literal(statement.value)
            for statement in body
            if isinstance(statement, ast.Assign)
        }
    except (SyntaxError, ValueError):  # not of mmengine, or not of literals
        return {}


def _literal(node: ast.expr) -> Any:
    """Return the value of literals and calls of ``dict``.

    Raises:
        ValueError: The expression has something else.
    """
    if isinstance(node, ast.Call) and getattr(node.func, 'id', None) == 'dict':
        return {keyword.arg: _literal(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        names = [ast.literal_eval(name) for name in node.keys]
        return dict(zip(names, map(_literal, node.values), strict=True))
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(element) for element in node.elts]
    return ast.literal_eval(node)


def _of_groups(state: Any, groups: Sequence[Mapping]) -> Iterator[str]:
    saved = state.get('param_groups', []) if isinstance(state, Mapping) else []
    if len(saved) != len(groups):
        return  # PyTorch raises an error.
    for old, new in zip(saved, groups, strict=True):
        for name in _OF_OPTIMIZERS:
            key = f'initial_{name}' if f'initial_{name}' in old else name
            if key in old and key in new and _plain(old[key]) != _plain(new[key]):
                yield f'{name} is {old[key]}, not {new[key]}'


def _of_schedules(states: Any, schedulers: Sequence) -> Iterator[str]:
    if not isinstance(states, Sequence):
        return
    if len(states) != len(schedulers):
        yield f'{len(states)} parts of param_scheduler, not {len(schedulers)}'
    for state, scheduler in zip(states, schedulers, strict=False):
        kind = type(scheduler).__name__
        for key in _OF_SCHEDULERS:
            old, new = state.get(key), getattr(scheduler, key, None)
            if _plain(old) != _plain(new):
                yield f'{key} of {kind} is {_shown(old)}, not {_shown(new)}'


def _plain(value: Any) -> Any:
    """The value, where containers of the same elements are equal."""
    return sorted(value) if isinstance(value, list | tuple | Mapping) else value


def _shown(value: Any) -> Any:
    return _plain(value) if isinstance(value, Mapping) else value
