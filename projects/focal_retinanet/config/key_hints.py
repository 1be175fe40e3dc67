"""What somebody may have meant by a key that a config does not have."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

# What the keys of mmdet 2.x's configs are called now.
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
    """Keys of a config that may be meant, the likeliest ones first.

    Args:
        path: the key, by its names.
        unknown: index of the name in it that no one knows.
        names: names that are known in its place.
        cfg: whatever of a config is read.
    """
    key = '.'.join(path)
    for old, new in _OF_MMDET_2.items():
        if key == old or key.startswith(f'{old}.'):
            return [new + key[len(old) :]]
    there = ['.'.join(other) for other, _ in items(cfg)]
    respelt = []
    for name in difflib.get_close_matches(path[unknown], sorted(names), 3, 0.7):
        other = '.'.join((*path[:unknown], name, *path[unknown + 1 :]))
        begins = '.'.join((*path[:unknown], name))
        if other in there or begins not in there:
            respelt.append(other)
    found = dict.fromkeys([*_with_the_same_end(path, cfg), *respelt])
    return [other for other in found if other != key]


def is_misspelt(name: str, names: Iterable[str]) -> bool:
    """Whether a name is likely to be meant as another one.

    Args:
        name: that is not one of the names.
        names: to compare it with; 'layer1' and 'layer2' are two names.
    """
    by_lower = {other.lower(): other for other in names}
    close = difflib.get_close_matches(name.lower(), sorted(by_lower), 3, 0.85)
    return any(_without_digits(other) != _without_digits(name) for other in close)


def copies(key: str, cfg: Mapping[str, Any], read: Collection[str]) -> list[str]:
    """Keys that have their values from a variable of a config file.

    Args:
        key: name of the variable.
        cfg: the config.
        read: the keys that a run reads, without their insides.
    """
    value = cfg[key]
    found: list[str] = []
    for path, other in items({k: v for k, v in cfg.items() if k in read}):
        name = '.'.join(path)
        is_inside = any(name.startswith(f'{outer}.') for outer in found)
        if not is_inside and _comes_from(key, value, path[-1], other):
            found.append(name)
    return found


def items(
    node: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each value inside dicts and lists, leaf or not, after the names that lead to it.

    Args:
        node: the dict or list; anything else has nothing inside.
        path: names that lead to it.
    """
    pairs: Any = ()
    if isinstance(node, Mapping):
        pairs = node.items()
    elif isinstance(node, list):
        pairs = enumerate(node)
    for key, value in pairs:
        inner = (*path, str(key))
        yield inner, value
        yield from items(value, inner)


def listed(names: Collection[str], last: str = ', ', most: int = 8) -> str:
    """The first of some names, and how many more there are."""
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return last.join(list(names)[:most]) + more


def _with_the_same_end(path: tuple[str, ...], cfg: Mapping[str, Any]) -> list[str]:
    """Keys with as many last names in common as any has."""
    common: dict[str, int] = {}
    for other, _ in items(cfg):
        pairs = list(zip(reversed(path), reversed(other), strict=False))
        differ = [a != b for a, b in pairs]
        common['.'.join(other)] = differ.index(True) if True in differ else len(pairs)
    most = max(common.values(), default=0)
    return [key for key, number in common.items() if number == most > 0]


def _comes_from(key: str, value: Any, name: str, other: Any) -> bool:
    if type(value) is not type(other):
        return False
    if value == other:
        is_telling = isinstance(value, str | list | tuple | dict) and bool(value)
        return name == key or is_telling
    if not isinstance(value, str) or not value or not other.startswith(value):
        return False
    return value.endswith('/') or other[len(value)] == '/'


def _without_digits(name: str) -> str:
    return re.sub(r'\d', '', name)
