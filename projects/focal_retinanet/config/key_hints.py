"""What the user may have meant by a key that no one reads."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import takewhile
from typing import Any

#: Today's names of the keys of mmdet 2.x.
_OF_MMDET_2 = {
    'data.samples_per_gpu': 'train_dataloader.batch_size',
    'data.workers_per_gpu': 'train_dataloader.num_workers',
    'data.train': 'train_dataloader.dataset',
    'data.val': 'val_dataloader.dataset',
    'data.test': 'test_dataloader.dataset',
    'optimizer_config.grad_clip': 'optim_wrapper.clip_grad',
    'checkpoint_config': 'default_hooks.checkpoint',
    'log_config': 'default_hooks.logger',
    'evaluation.interval': 'train_cfg.val_interval',
    'evaluation': 'val_evaluator',
    'runner.max_epochs': 'train_cfg.max_epochs',
    'runner.max_iters': 'train_cfg.max_iters',
    'lr_config': 'param_scheduler',
    'optimizer': 'optim_wrapper.optimizer',
    'runner': 'train_cfg',
    'total_epochs': 'train_cfg.max_epochs',
    'seed': 'randomness.seed',
    'cudnn_benchmark': 'env_cfg.cudnn_benchmark',
    'dist_params': 'env_cfg.dist_cfg',
}


def hints(
    path: tuple[str, ...],
    unknown: int,
    names: Collection[str],
    cfg: Mapping[str, Any],
) -> list[str]:
    """Return the keys that may be meant, the likeliest first.

    Args:
        path: Names that make up the key.
        unknown: Index of the unknown name in the path.
        names: Names that are known in its place.
        cfg: Part of the config that a run reads.
    """
    key = '.'.join(path)
    for old, new in _OF_MMDET_2.items():
        if key == old or key.startswith(f'{old}.'):
            return [new + key[len(old) :]]
    there = ['.'.join(other) for other, _ in _items(cfg)]
    respelt = []
    for name in difflib.get_close_matches(path[unknown], sorted(names), 3, 0.7):
        begins = '.'.join((*path[:unknown], name))
        other = '.'.join((begins, *path[unknown + 1 :]))
        if other in there or begins not in there:
            respelt.append(other)
    found = dict.fromkeys([*_with_the_same_end(path, cfg), *respelt])
    return [other for other in found if other != key]


def is_of_mmdet_2(key: str) -> bool:
    """Return whether configs of mmdet 2.x have a top-level key, and today's have not."""
    return any(old.partition('.')[0] == key for old in _OF_MMDET_2)


def is_misspelt(name: str, names: Iterable[str]) -> bool:
    """Return whether an unknown name is likely to be a misspelling of a known one.

    Names that differ only in digits, such as ``layer1`` and ``layer2``, are no
    misspellings of each other.
    """
    by_lower = {other.lower(): other for other in names}
    close = difflib.get_close_matches(name.lower(), sorted(by_lower), 3, 0.85)
    return any(re.sub(r'\d', '', x) != re.sub(r'\d', '', name) for x in close)


def copies(key: str, cfg: Mapping[str, Any], read: Collection[str]) -> list[str]:
    """Return the keys whose values seem to come from a variable of a config file.

    Args:
        key: Name of the variable.
        cfg: Whole config.
        read: Top-level keys that a run reads.
    """
    found: list[str] = []
    for path, other in _items({k: v for k, v in cfg.items() if k in read}):
        name = '.'.join(path)
        is_inside = any(name.startswith(f'{outer}.') for outer in found)
        if not is_inside and _comes_from(key, cfg[key], path[-1], other):
            found.append(name)
    return found


def _items(
    node: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path and value of each node inside nested dicts and lists."""
    pairs: Any = ()
    if isinstance(node, Mapping):
        pairs = node.items()
    elif isinstance(node, list):
        pairs = enumerate(node)
    for key, value in pairs:
        inner = (*path, str(key))
        yield inner, value
        yield from _items(value, inner)


def _with_the_same_end(path: tuple[str, ...], cfg: Mapping[str, Any]) -> list[str]:
    """Return the keys that share the most last names with a path, if any does."""
    common: dict[str, int] = {}
    for other, _ in _items(cfg):
        pairs = zip(reversed(path), reversed(other), strict=False)
        common['.'.join(other)] = len(list(takewhile(lambda p: p[0] == p[1], pairs)))
    most = max(common.values(), default=0)
    return [key for key, number in common.items() if number == most > 0]


def _comes_from(key: str, value: Any, name: str, other: Any) -> bool:
    if type(value) is not type(other):
        return False
    if _without_scope(value) == _without_scope(other):
        is_telling = isinstance(value, str | list | tuple | dict) and bool(value)
        return name == key or is_telling
    if not isinstance(value, str) or not value or not other.startswith(value):
        return False
    return value.endswith('/') or other[len(value)] == '/'


def _without_scope(value: Any) -> Any:
    """Return a value without the ``_scope_`` that a base of another package adds."""
    if isinstance(value, Mapping):
        return {k: _without_scope(v) for k, v in value.items() if k != '_scope_'}
    if isinstance(value, list | tuple):
        return type(value)(map(_without_scope, value))
    return value
