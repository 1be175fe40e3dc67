"""Keys in which configs differ."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

#: Last parts of keys that say nothing about the model.
LEFT_OUT = ('work_dir', 'load_from', 'resume', 'test_out_dir')
ABSENT = '-'


@dataclass(frozen=True)
class KeyDifference:
    """A key and its value in each config as text; ``ABSENT`` if a config lacks it."""

    key: str
    values: list[str]


def config_differences(configs: Sequence[Mapping]) -> list[KeyDifference]:
    """Return the keys whose values are not equal in all configs.

    Keys have dots; elements of a list of dicts have their index:
    ``model.bbox_head.loss_cls.gamma``, ``param_scheduler.1.milestones``.
    """
    flat = [
        {
            key: value
            for key, value in _leaves(config)
            if key.rpartition('.')[2] not in LEFT_OUT
        }
        for config in configs
    ]
    keys = dict.fromkeys(key for one in flat for key in one)
    rows = (KeyDifference(key, [f.get(key, ABSENT) for f in flat]) for key in keys)
    return [row for row in rows if len(set(row.values)) > 1]


def _leaves(value: object, key: str = '') -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        children = value.items()
    elif isinstance(value, list | tuple) and any(
        isinstance(one, Mapping) for one in value
    ):
        children = enumerate(value)
    else:
        yield key, repr(value)
        return
    for name, child in children:
        yield from _leaves(child, f'{key}.{name}' if key else str(name))
