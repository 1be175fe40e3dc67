"""Settings of the optimizer and its schedule that a resumed run has from its checkpoint."""

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
