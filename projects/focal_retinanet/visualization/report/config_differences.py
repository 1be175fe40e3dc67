"""Which keys of several configs have other values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Of no model's making: where its files are.
LEFT_OUT = ('work_dir',)
ABSENT = '-'


@dataclass(frozen=True)
class Difference:
    """A key, and its value in each config, as text; ``ABSENT`` where it is not."""

    key: str
    values: list[str]


def config_differences(configs: Sequence[Mapping]) -> list[Difference]:
    """The keys whose values are not the same in all configs.

    Keys are written with dots, elements of a list of dicts with their index:
    ``model.bbox_head.loss_cls.gamma``, ``param_scheduler.1.milestones``.
    """
    flat = [_flatten(config) for config in configs]
    keys = dict.fromkeys(key for one in flat for key in one)
    rows = (Difference(key, [f.get(key, ABSENT) for f in flat]) for key in keys)
    return [row for row in rows if len(set(row.values)) > 1]


def _flatten(config: Mapping) -> dict[str, str]:
    found: dict[str, str] = {}

    def walk(value: object, key: str) -> None:
        if isinstance(value, Mapping) and value:
            children = value.items()
        elif isinstance(value, list | tuple) and any(
            isinstance(one, Mapping) for one in value
        ):
            children = enumerate(value)
        else:
            found[key] = repr(value)
            return
        for name, child in children:
            walk(child, f'{key}.{name}' if key else str(name))

    walk({k: v for k, v in config.items() if k not in LEFT_OUT}, '')
    return found
