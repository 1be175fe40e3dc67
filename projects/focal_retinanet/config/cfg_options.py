"""Set options in a config: ``--cfg-options`` and the rows of a table.

mmengine accepts any key. Here a key that no one reads is an error, because a
misspelt key would otherwise be noticed after the run, or never.
"""

import copy
from collections.abc import Collection, Mapping
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.utils import import_modules_from_strings

from focal_retinanet.cli.errors import UserError
from focal_retinanet.cli.naming import few
from focal_retinanet.config.key_hints import copies, hints, is_misspelt
from focal_retinanet.config.known_keys import known_keys, reader, top_level_keys

_DELETE = '_delete_'
# Hooks that the runner adds unless the config sets them to None.
_STANDARD_HOOKS = {
    *('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler'),
    'checkpoint',
}


def merge_options(
    cfg: Config, options: Mapping[str, Any] | None, source: str = '--cfg-options'
) -> None:
    """Set options in a config, after checking that somebody reads each of them.

    Args:
        cfg: Config, changed in place.
        options: Values by their keys, or None. Dots in a key lead into dicts, numbers
            into lists.
        source: Origin of the options, for errors.

    Raises:
        UserError: No one reads a key, as far as can be known; or a key leads into
            something that is neither dict nor list, or past the end of a list.
    """
    nested = _nested(options or {}, source)
    if not nested:
        return
    _import_modules(cfg, nested, source)
    _Check(cfg, nested, source).run()
    for key, value in nested.items():
        cfg[key] = _merged(cfg.get(key), value)


def _merged(old: Any, new: Any) -> Any:
    """Merge an option's value into a config's value.

    mmengine's merging cannot replace None by a dict or set an entry of a list, and
    it removes ``_delete_`` from the options themselves.
    """
    if isinstance(new, list | tuple):
        return type(new)(_merged(None, item) for item in new)
    if not isinstance(new, dict):
        return new
    options = {key: value for key, value in new.items() if key != _DELETE}
    if new.get(_DELETE) or not isinstance(old, dict | list):
        return ConfigDict({k: _merged(None, v) for k, v in options.items()})
    merged = old.copy()
    for key, value in options.items():
        if isinstance(old, list):
            merged[int(key)] = _merged(old[int(key)], value)
        else:
            merged[key] = _merged(old.get(key), value)
    return merged


def _nested(options: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return a copy of the options as nested dicts."""
    nested: dict[str, Any] = {}
    for full_key, value in options.items():
        inner: Any = nested
        *outer, last = str(full_key).split('.')
        for key in outer:
            inner = inner.setdefault(key, {})
            if not isinstance(inner, dict):
                raise UserError(
                    f'{source}: {full_key} leads into {key}, which another option '
                    f'sets to {inner!r}'
                )
        inner[last] = copy.deepcopy(value)
    return nested


def _import_modules(cfg: Config, nested: Mapping[str, Any], source: str) -> None:
    """Import the modules of ``custom_imports``, as mmengine does for a file."""
    if not isinstance(nested.get('custom_imports'), dict):
        return
    imports = {**(cfg.get('custom_imports') or {}), **nested['custom_imports']}
    try:
        import_modules_from_strings(**imports)
    except (ImportError, TypeError) as error:
        raise UserError(f'{source}: custom_imports: {error}') from error


class _Check:
    """The check of nested options against the config that they change."""

    def __init__(self, cfg: Config, nested: dict[str, Any], source: str) -> None:
        self.cfg = cfg.to_dict()
        self.nested = nested
        self.source = source
        # The config's keys, with the options, that decide who reads the others.
        self.context = dict(self.cfg)
        for name in ('default_scope', 'runner_type', 'model', 'optim_wrapper'):
            old, new = self.cfg.get(name), nested.get(name)
            if isinstance(old, dict) and isinstance(new, dict):
                self.context[name] = {**old, **new}
            elif name in nested:
                self.context[name] = new
        self.top_level = top_level_keys(self.context)
        self.is_read = {k: v for k, v in self.cfg.items() if k in self.top_level.names}

    def run(self) -> None:
        for key, value in self.nested.items():
            self._check_top_level(key, value)
            self._check(self.cfg.get(key), value, (key,))

    def _check_top_level(self, key: str, value: Any) -> None:
        names = self.top_level.names
        if key in names:
            return
        if key not in self.cfg:
            if self.top_level.is_complete or is_misspelt(key, names):
                raise self._unread((key,), value, f'a run has no {key}', names)
            return
        if found := copies(key, self.cfg, names):
            raise UserError(
                f'{self.source}: no one reads {key}: it is a variable of the config '
                f'file, whose value is already in use. Set {few(found, 8)}; or change '
                f'{key} in a config of your own'
            )

    def _check(self, old: Any, new: Any, path: tuple[str, ...]) -> None:
        """Compare an option with the config's value in its place, or None."""
        if isinstance(new, list | tuple):
            for index, item in enumerate(new):
                self._check(None, item, (*path, str(index)))
        if not isinstance(new, dict):
            return
        if old is None or new.get(_DELETE):
            old = {}
        name = '.'.join(path)
        if isinstance(old, list):
            for key in new:
                if not str(key).isdigit() or int(key) >= len(old):
                    has = f'entries 0 to {len(old) - 1}' if old else 'no entries'
                    raise UserError(
                        f'{self.source}: there is no {name}.{key}: {name} is a list '
                        f'with {has}'
                    )
            old = dict(enumerate(old))
            new = {int(key): value for key, value in new.items()}
        elif isinstance(old, dict):
            self._check_names(old, new, path)
        else:
            raise UserError(
                f'{self.source}: {name} is {old!r} in the config and has no '
                f'{few(new, 8)}; set {name} itself'
            )
        for key, value in new.items():
            self._check(old.get(key), value, (*path, str(key)))

    def _check_names(
        self, old: Mapping[str, Any], new: Mapping[str, Any], path: tuple[str, ...]
    ) -> None:
        if path[-1] == 'custom_keys':  # names of parameters, or parts of them
            return
        unknown = [key for key in new if key not in old and key != _DELETE]
        if path == ('default_hooks',):
            for key in unknown:
                self._check_hook(key, new[key], old)
            return
        node = {**old, **new}
        known = known_keys(path, node, self.context)
        names = known.names | old.keys()
        for key in unknown:
            if key in known.names:
                continue
            if known.is_complete or is_misspelt(str(key), map(str, names)):
                says = f'{reader(path, node)} has no {key}'
                raise self._unread((*path, str(key)), new[key], says, names)

    def _check_hook(self, key: str, value: Any, old: Mapping[str, Any]) -> None:
        """Accept any name for a hook that has a type."""
        is_hook = isinstance(value, dict) and 'type' in value
        if is_hook or (value is None and key in _STANDARD_HOOKS):
            return
        says = f'there is no hook {key}, and a new one needs its type'
        raise self._unread(('default_hooks', key), value, says, old)

    def _unread(
        self, path: tuple[str, ...], value: Any, says: str, names: Collection[str]
    ) -> UserError:
        """Return the error for a key whose last name no one knows."""
        whole = path
        while isinstance(value, dict) and (inner := [k for k in value if k != _DELETE]):
            whole, value = (*whole, str(inner[0])), value[inner[0]]
        found = hints(whole, len(path) - 1, set(map(str, names)), self.is_read)
        hint = f'; did you mean {few(found, 4, " or ")}?' if found else ''
        return UserError(f'{self.source}: no one reads {".".join(whole)}: {says}{hint}')
