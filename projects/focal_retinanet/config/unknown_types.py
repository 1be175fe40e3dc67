"""What the user may have meant by a `type` that no registry has."""

import difflib
import re
from collections.abc import Iterator

from mmengine import registry as roots
from mmengine.registry import Registry

_MESSAGE = re.compile(r'(\S+) is not in the (\S+)::(.+) registry\. Please check')


def describe_unknown_type(error: KeyError) -> str | None:
    """Explain mmengine's error about a `type` in a config; None for other errors."""
    match = _MESSAGE.match(str(error.args[0])) if error.args else None
    if match is None:
        return None
    name, scope, kind = match.groups()
    likely = _similar(name, scope, kind)
    advice = f'do you mean {" or ".join(likely)}?' if likely else 'is it misspelt?'
    return (
        f"the config has type='{name}', and there is no such {kind.replace('_', ' ')}; "
        f'{advice} A component of your own needs a line custom_imports in the config'
    )


def _similar(name: str, scope: str, kind: str) -> list[str]:
    """Names of components that look like a name, those of its own scope first."""
    own, _, bare = name.rpartition('.')
    known: dict[str, list[str]] = {}
    for registry in _registries(kind):
        for other in registry.module_dict:
            # The scopes of a run's parents are searched without being named.
            is_plain = registry.scope in (scope, 'mmengine')
            full = other if is_plain else f'{registry.scope}.{other}'
            known.setdefault(other.lower(), []).append(full)
    close = difflib.get_close_matches(bare.lower(), sorted(known), 3, 0.75)
    found = [full for other in close for full in known[other]]
    return sorted(found, key=lambda full: full.rpartition('.')[0] != own)[:3]


def _registries(kind: str) -> Iterator[Registry]:
    """Yield mmengine's registry of a kind and all below it."""
    waiting = [
        registry
        for registry in vars(roots).values()
        if isinstance(registry, Registry) and registry.name == kind
    ]
    while waiting:
        registry = waiting.pop(0)
        registry.import_from_location()
        yield registry
        waiting += registry.children.values()
