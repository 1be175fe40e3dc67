"""Checkpoints of nothing but tensors, numbers, strings and containers of them.

mmengine saves objects of its own classes, numpy's numbers and Counters, which
``torch.load(path, weights_only=True)`` refuses; which of them depends on torch's
version.
"""

import numbers
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner

from focal_retinanet.registry import HOOKS

#: Key of a checkpoint that holds mmengine's log, as tensors.
HISTORY = 'focal_retinanet_history'
#: Key of a checkpoint that lists what was replaced: its path of keys, and its class.
REPLACED = 'focal_retinanet_replaced'


class NotPlainError(TypeError):
    """An object that no plain object can replace."""


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Save checkpoints that every ``torch.load`` reads, and resume them exactly.

    Checkpoints have mmengine's keys, so a stock mmengine resumes them, too. The log
    has a key of its own, so a stock mmengine begins a new log.
    """

    # All other hooks must have put their data into the checkpoint.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._said: set[str] = set()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        replaced: list[tuple[list, str]] = []
        if 'message_hub' in checkpoint:
            hub, checkpoint[HISTORY] = _split(checkpoint['message_hub'])
            checkpoint['message_hub'] = {
                name: self._plain_values(runner, part, ['message_hub', name], replaced)
                for name, part in hub.items()
            }
        if 'meta' in checkpoint:
            checkpoint['meta'] = self._plain_values(
                runner, checkpoint['meta'], ['meta'], replaced
            )
        # A resumed run cannot do without the others, plain or not.
        others = {
            k: v for k, v in checkpoint.items() if k not in ('meta', 'message_hub')
        }
        checkpoint.update(self._plain_values(runner, others, [], replaced, keep=True))
        if replaced:
            checkpoint[REPLACED] = [list(pair) for pair in replaced]

    def _plain_values(
        self,
        runner: Runner,
        node: Mapping[str, Any],
        path: list,
        replaced: list,
        keep: bool = False,
    ) -> dict[str, Any]:
        """Make values plain; warn of those that cannot be, and keep or drop them."""
        plain = {}
        for key, value in node.items():
            before = len(replaced)
            try:
                plain[key] = _plain(value, [*path, key], replaced)
            except NotPlainError as error:
                del replaced[before:]
                message = f'{error} is not saved in checkpoints'
                if keep:
                    plain[key] = value
                    message = (
                        f'checkpoints of this run hold {error}, which only '
                        '--unsafe-checkpoint will load'
                    )
                if message not in self._said:
                    self._said.add(message)
                    runner.logger.warning(message)
        return plain

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        # Inner objects come before those that contain them.
        for path, kind in checkpoint.pop(REPLACED, []):
            _restore(checkpoint, path, kind)
        history = checkpoint.pop(HISTORY, {})
        hub = checkpoint.get('message_hub')
        if hub is None:  # another hook removed it
            return
        for name, record in history.items():
            hub['resumed_keys'][name] = record['resumed']
            hub['log_scalars'][name] = HistoryBuffer(
                record['log'].cpu().numpy(),
                record['count'].cpu().numpy(),
                record['max_length'],
            )


def _split(hub: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split mmengine's record of a run into the rest and the log, as tensors."""
    history, scalars = {}, {}
    resumed = dict(hub['resumed_keys'])
    for name, buffer in hub['log_scalars'].items():
        if not isinstance(buffer, HistoryBuffer):
            scalars[name] = buffer
            continue
        log, count = buffer.data
        history[name] = dict(
            log=torch.from_numpy(np.array(log)),
            count=torch.from_numpy(np.array(count)),
            max_length=buffer.max_length,
            # A stock mmengine would warn of each name without a log.
            resumed=resumed.pop(name, False),
        )
    rest = dict(runtime_info=dict(hub['runtime_info']), resumed_keys=resumed)
    return {**hub, 'log_scalars': scalars, **rest}, history


def _plain(value: Any, path: list, replaced: list) -> Any:
    """Return a plain object for a value, the value itself if it is plain.

    Args:
        value: Object to save.
        path: Keys that lead to it in the checkpoint.
        replaced: Receives the path and class of each object that can be restored.

    Raises:
        NotPlainError: No plain object can replace the value.
    """
    if value is None or type(value) in (bool, int, float, complex, str):
        return value
    if isinstance(value, torch.Tensor | torch.Size | torch.dtype):
        return value
    if isinstance(value, np.ndarray):
        return _plain_array(value, path, replaced)
    if isinstance(value, np.generic):
        item = value.item()
        # The item of a long double is a long double.
        return float(item) if isinstance(item, np.generic) else _plain(item, path, [])
    if isinstance(value, str | numbers.Number):  # of a subclass, such as an enum's
        kinds = (kind for kind in (str, int, float, complex) if isinstance(value, kind))
        return next(kinds, float)(value)
    if isinstance(value, Mapping):
        return _plain_mapping(value, path, replaced)
    if isinstance(value, list | tuple):
        items = [_plain(item, [*path, i], replaced) for i, item in enumerate(value)]
        if type(value) in (list, tuple) and _are_the_same(items, value):
            return value
        if isinstance(value, list):
            return items
        # Items of a tuple cannot be restored in place: restore it as a whole.
        if any(p[: len(path)] == path for p, _ in replaced):
            replaced.append((path, 'tuple'))
            return items
        return tuple(items)
    if isinstance(value, set | frozenset):
        items = [_plain_key(item, path) for item in value]
        replaced.append((path, 'set' if isinstance(value, set) else 'frozenset'))
        return items
    raise NotPlainError(f'{".".join(map(str, path))}, a {type(value).__name__},')


def _plain_array(value: np.ndarray, path: list, replaced: list) -> Any:
    try:
        tensor = torch.from_numpy(np.ascontiguousarray(value))
    except TypeError as error:  # strings and other objects
        says = f'{".".join(map(str, path))}, an array of {value.dtype},'
        raise NotPlainError(says) from error
    replaced.append((path, 'ndarray'))
    return tensor.reshape(value.shape)


def _plain_mapping(value: Mapping, path: list, replaced: list) -> Mapping:
    keys = {key: _plain_key(key, path) for key in value}
    items = {
        keys[key]: _plain(item, [*path, keys[key]], replaced)
        for key, item in value.items()
    }
    if isinstance(value, Counter):
        replaced.append((path, 'Counter'))
        return items
    is_the_same = _are_the_same([*items, *items.values()], [*value, *value.values()])
    if type(value) in (dict, OrderedDict) and is_the_same:
        return value  # keeps attributes, such as a state_dict's
    return OrderedDict(items) if type(value) is OrderedDict else items


def _plain_key(value: Any, path: list) -> Any:
    """Return a plain key or item of a set, in which nothing can be restored."""
    replaced: list[tuple[list, str]] = []
    plain = _plain(value, path, replaced)
    if replaced:
        raise NotPlainError(f'{".".join(map(str, path))}, with {value!r} in it,')
    return plain


def _are_the_same(items: Any, others: Any) -> bool:
    return all(a is b for a, b in zip(items, others, strict=True))


def _restore(checkpoint: dict, path: list, kind: str) -> None:
    """Restore a replaced object, if it is still there."""
    *outer, last = path
    owner = checkpoint
    try:
        for key in outer:
            owner = owner[key]
        value = owner[last]
    except (KeyError, IndexError):  # another hook removed it
        return
    kinds = dict(Counter=Counter, tuple=tuple, set=set, frozenset=frozenset)
    owner[last] = value.cpu().numpy() if kind == 'ndarray' else kinds[kind](value)
