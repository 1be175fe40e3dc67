"""Schedules of another length: one number for the loop and its learning rates."""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from mmengine.config import Config

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.metric_configs import type_name

# Parameters of mmengine's schedulers that are places or lengths in time.
_TIMES = ('begin', 'end', 'T_max', 'step_size', 'total_steps')


def set_epochs(cfg: Config, epochs: int, flag: str = '--epochs') -> None:
    """Set the number of epochs, and stretch the schedule of the learning rate.

    Milestones, ends and other times of ``param_scheduler`` that are in epochs keep
    their share of the training, rounded to whole epochs. Times in iterations, such as
    a warm-up's, stay.

    Args:
        cfg: Config of a run, which is changed.
        epochs: Number of epochs.
        flag: Argument that gave the number, for errors.

    Raises:
        UserError: The config trains by iterations, or a part of the schedule would
            have no epoch.
    """
    _set_length(cfg, epochs, 'epochs', flag, '--iters')


def set_iters(cfg: Config, iters: int, flag: str = '--iters') -> None:
    """Set the number of iterations; see :func:`set_epochs`.

    Args:
        cfg: Config of a run, which is changed.
        iters: Number of iterations.
        flag: Argument that gave the number, for errors.

    Raises:
        UserError: The config trains by epochs, or a part of the schedule would have
            no iteration.
    """
    _set_length(cfg, iters, 'iters', flag, '--epochs')


def _set_length(cfg: Config, new: int, unit: str, flag: str, other: str) -> None:
    train_cfg = cfg.get('train_cfg') or {}
    old = train_cfg.get(f'max_{unit}')
    if old is None:
        counts = 'iterations' if unit == 'epochs' else 'epochs'
        raise UserError(
            f'{flag} {new}: {cfg.filename} counts its training in {counts}; '
            f'give {other} N instead'
        )
    train_cfg[f'max_{unit}'] = new
    if train_cfg.get('val_interval', 1) > new:
        train_cfg['val_interval'] = new
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    is_same_unit = checkpoint.get('by_epoch', True) == (unit == 'epochs')
    if is_same_unit and checkpoint.get('interval', -1) > new:
        checkpoint['interval'] = new
    for scheduler in schedulers_in(cfg.get('param_scheduler')):
        if scheduler.get('by_epoch', True) == (unit == 'epochs'):
            _stretch(scheduler, old, new, f'{flag} {new}')


def schedulers_in(node: Any) -> Iterator[MutableMapping]:
    """Yield the schedulers of ``param_scheduler``: one, a list, or either by optimizer."""
    if isinstance(node, Mapping) and 'type' in node:
        yield node
        return
    for part in node.values() if isinstance(node, Mapping) else node or []:
        yield from schedulers_in(part)


def _stretch(scheduler: MutableMapping, old: int, new: int, source: str) -> None:
    begins, ends = scheduler.get('begin', 0), scheduler.get('end')
    for key in _TIMES:
        if key in scheduler:
            scheduler[key] = _scaled(scheduler[key], old, new)
    for key in ('T_max', 'step_size', 'total_steps'):
        if key in scheduler:
            scheduler[key] = max(1, scheduler[key])
    if 'periods' in scheduler:
        scheduler['periods'] = [
            max(1, _scaled(t, old, new)) for t in scheduler['periods']
        ]
    if 'milestones' in scheduler:
        times = dict.fromkeys(
            _scaled(time, old, new) for time in scheduler['milestones']
        )
        # Two steps at once would be one of another height; one at 0 has no time before.
        scheduler['milestones'] = [time for time in times if 0 < time < new]
    if ends is not None and scheduler['end'] <= scheduler.get('begin', 0):
        raise UserError(
            f'{source}: {type_name(scheduler)}, from {begins} to {ends} of {old}, '
            'would have no time; train for longer, or set param_scheduler'
        )


def _scaled(time: int, old: int, new: int) -> int:
    # To the next whole number, halves up.
    return (2 * time * new + old) // (2 * old)
