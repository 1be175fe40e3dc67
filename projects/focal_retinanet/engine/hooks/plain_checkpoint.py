"""Checkpoints of nothing but tensors, numbers, strings and containers of them.

mmengine saves objects of its own classes, numpy's numbers and Counters, which
``torch.load(path, weights_only=True)`` refuses, each version of torch another part
of them.
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

#: Key of a checkpoint under which mmengine's log is, as tensors.
HISTORY = 'focal_retinanet_history'
#: Key of a list of what was replaced: the keys that lead to it, and its class.
REPLACED = 'focal_retinanet_replaced'
# Plain for a checkpoint's purposes, and large: their containers stay as they are.
_AS_THEY_ARE = (torch.Tensor, torch.Size, torch.dtype)


class NotPlainError(TypeError):
    """An object that nothing plain can stand for."""


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Save what any ``torch.load`` reads, and resume it exactly.

    Checkpoints have mmengine's keys. Its log is under a key of its own, so that a
    stock mmengine, which resumes them as well, begins a new one.
    """

    # After all other hooks have put into the checkpoint what they need.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._said: set[str] = set()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        replaced: list[tuple[list, str]] = []
        if 'message_hub' in checkpoint:
            hub, history = _split(checkpoint['message_hub'])
            checkpoint.update({'message_hub': hub, HISTORY: history})
        for key in list(checkpoint):
            inside = checkpoint[key]
            if key == 'meta':
                checkpoint[key] = self._plain_values(runner, inside, [key], replaced)
            elif key == 'message_hub':
                checkpoint[key] = {
                    name: self._plain_values(runner, part, [key, name], replaced)
                    for name, part in inside.items()
                }
            else:
                self._make_plain(runner, checkpoint, key, replaced)
        if replaced:
            checkpoint[REPLACED] = [list(pair) for pair in replaced]

    def _make_plain(
        self, runner: Runner, checkpoint: dict, key: str, replaced: list
    ) -> None:
        """Make a part plain that a resumed run cannot do without, if it can be."""
        before = len(replaced)
        try:
            checkpoint[key] = _plain(checkpoint[key], [key], replaced)
        except NotPlainError as error:
            del replaced[before:]
            self._warn(
                runner,
                f'checkpoints of this run hold {error}, which only --unsafe-checkpoint '
                'will load',
            )

    def _plain_values(
        self, runner: Runner, node: Mapping[str, Any], path: list, replaced: list
    ) -> dict[str, Any]:
        """The values for which there is something plain."""
        plain = {}
        for key, value in node.items():
            before = len(replaced)
            try:
                plain[key] = _plain(value, [*path, key], replaced)
            except NotPlainError as error:
                del replaced[before:]
                self._warn(runner, f'{error} is not saved in checkpoints')
        return plain

    def _warn(self, runner: Runner, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            runner.logger.warning(message)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        # The innermost ones come first.
        for path, kind in checkpoint.pop(REPLACED, []):
            _restore(checkpoint, path, kind)
        history = checkpoint.pop(HISTORY, {})
        hub = checkpoint.get('message_hub')
        if hub is None:  # somebody took it out
            return
        for name, record in history.items():
            hub['resumed_keys'][name] = record['resumed']
            hub['log_scalars'][name] = HistoryBuffer(
                record['log'].cpu().numpy(),
                record['count'].cpu().numpy(),
                record['max_length'],
            )


def _split(hub: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """mmengine's record of a run without its log, and the log as tensors."""
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
            # A stock mmengine warns of each name that it does not find.
            resumed=resumed.pop(name, False),
        )
    rest = dict(runtime_info=dict(hub['runtime_info']), resumed_keys=resumed)
    return {**hub, 'log_scalars': scalars, **rest}, history


def _plain(value: Any, path: list, replaced: list) -> Any:
    """Something plain for a value; itself if it is that already.

    Args:
        value: object to save.
        path: keys that lead to it in the checkpoint.
        replaced: list that gets the path and class of what can be put back.

    Raises:
        NotPlainError: there is nothing plain for it.
    """
    if value is None or isinstance(value, _AS_THEY_ARE):
        return value
    for kind in (bool, int, float, complex, str):
        if type(value) is kind:
            return value
    if isinstance(value, np.ndarray):
        return _plain_array(value, path, replaced)
    if isinstance(value, np.generic):
        item = value.item()
        # A long double's is a long double.
        return float(item) if isinstance(item, np.generic) else _plain(item, path, [])
    if isinstance(value, str | numbers.Number):
        return _plain_number_or_string(value)
    if isinstance(value, Mapping):
        return _plain_mapping(value, path, replaced)
    if isinstance(value, list | tuple):
        items = [_plain(item, [*path, i], replaced) for i, item in enumerate(value)]
        if type(value) in (list, tuple) and _are_the_same(items, value):
            return value
        if isinstance(value, list):
            return items
        # A tuple cannot be changed where it stands: put back as a whole.
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


def _plain_number_or_string(value: Any) -> Any:
    for kind in (str, int, float, complex):
        if isinstance(value, kind):
            return kind(value)
    return float(value)


def _plain_mapping(value: Mapping, path: list, replaced: list) -> Mapping:
    keys = {key: _plain_key(key, path) for key in value}
    items = {
        keys[key]: _plain(item, [*path, keys[key]], replaced)
        for key, item in value.items()
    }
    if isinstance(value, Counter):
        replaced.append((path, 'Counter'))
        return items
    is_the_same = _are_the_same(items.values(), value.values())
    is_the_same &= _are_the_same(items, value)
    if type(value) in (dict, OrderedDict) and is_the_same:
        return value
    return OrderedDict(items) if type(value) is OrderedDict else items


def _plain_key(value: Any, path: list) -> Any:
    """What is hashed has to stay so: nothing in it can be put back later."""
    replaced: list[tuple[list, str]] = []
    plain = _plain(value, path, replaced)
    if replaced:
        raise NotPlainError(f'{".".join(map(str, path))}, with {value!r} in it,')
    return plain


def _are_the_same(items: Any, others: Any) -> bool:
    return all(a is b for a, b in zip(items, others, strict=True))


def _restore(checkpoint: dict, path: list, kind: str) -> None:
    """Put back what was replaced, if it is still there."""
    *outer, last = path
    owner = checkpoint
    try:
        for key in outer:
            owner = owner[key]
        value = owner[last]
    except (KeyError, IndexError):  # somebody took it out
        return
    kinds = dict(Counter=Counter, tuple=tuple, set=set, frozenset=frozenset)
    owner[last] = value.cpu().numpy() if kind == 'ndarray' else kinds[kind](value)
