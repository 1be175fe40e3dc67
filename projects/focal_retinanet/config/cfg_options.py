"""Options on top of a config: ``--cfg-options``, and the rows of a table.

mmengine takes whatever it is given. Here a key that no one reads is an error: it
would be noticed when the run has ended, or never.
"""

import copy
from collections.abc import Collection, Mapping
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.utils import import_modules_from_strings

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.key_hints import copies, hints, is_misspelt, listed
from focal_retinanet.config.known_keys import known_keys, reader, top_level_keys

_DELETE = '_delete_'
# The runner adds those of them that the config does not set to None.
_STANDARD_HOOKS = {
    *('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler'),
    'checkpoint',
}


def merge_options(
    cfg: Config, options: Mapping[str, Any] | None, source: str = '--cfg-options'
) -> None:
    """Set options in a config, each of which somebody reads.

    Args:
        cfg: config, which is changed in place.
        options: values by their keys; dots lead into dicts, and numbers into lists.
            None stands for no options.
        source: place of the options, for errors.

    Raises:
        UserError: no one reads a key, as far as that can be known; or a key leads
            into something that is neither dict nor list, or past a list's end.
    """
    nested = _nested(options or {}, source)
    if not nested:
        return
    _import_modules(cfg, nested, source)
    _Check(cfg, nested, source).run()
    for key, value in nested.items():
        cfg[key] = _merged(cfg.get(key), value)


def _merged(old: Any, new: Any) -> Any:
    """A config's value with an option's on top.

    Not by mmengine, which puts no dict in the place of None and no number into a
    list, and takes ``_delete_`` out of the options themselves.
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
    """The options as dicts of dicts, all of them copies."""
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
    """Do what mmengine does with a file's ``custom_imports`` as it reads it."""
    if not isinstance(nested.get('custom_imports'), dict):
        return
    imports = {**(cfg.get('custom_imports') or {}), **nested['custom_imports']}
    try:
        import_modules_from_strings(**imports)
    except (ImportError, TypeError) as error:
        raise UserError(f'{source}: custom_imports: {error}') from error


class _Check:
    """The check of options against the config that they change.

    Args:
        cfg: config without them.
        nested: options as dicts of dicts.
        source: place of the options, for errors.
    """

    def __init__(self, cfg: Config, nested: dict[str, Any], source: str) -> None:
        self.cfg = cfg.to_dict()
        self.nested = nested
        self.source = source
        # What says where types are looked up, and by whom other keys are read.
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
                f'file, which has been read already. Set {listed(found)}; or change '
                f'{key} in a config of your own'
            )

    def _check(self, old: Any, new: Any, path: tuple[str, ...]) -> None:
        """Compare an option with what the config has in its place, or None."""
        if isinstance(new, list | tuple):
            for index, item in enumerate(new):
                self._check(None, item, (*path, str(index)))
        if not isinstance(new, dict):
            return
        if old is None or new.get(_DELETE):
            old = {}
        if isinstance(old, list):
            self._check_list(old, new, path)
            return
        if not isinstance(old, dict):
            name = '.'.join(path)
            raise UserError(
                f'{self.source}: {name} is {old!r} in the config and has no '
                f'{listed(new)}; set {name} itself'
            )
        self._check_names(old, new, path)
        for key, value in new.items():
            self._check(old.get(key), value, (*path, str(key)))

    def _check_list(
        self, old: list, new: Mapping[str, Any], path: tuple[str, ...]
    ) -> None:
        name = '.'.join(path)
        for key, value in new.items():
            if not str(key).isdigit() or int(key) >= len(old):
                has = f'entries 0 to {len(old) - 1}' if old else 'no entries'
                raise UserError(
                    f'{self.source}: there is no {name}.{key}: {name} is a list '
                    f'with {has}'
                )
            self._check(old[int(key)], value, (*path, str(key)))

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
        """A hook is read under any name, if it is one."""
        is_hook = isinstance(value, dict) and 'type' in value
        if is_hook or (value is None and key in _STANDARD_HOOKS):
            return
        says = f'there is no hook {key}, and a new one needs its type'
        raise self._unread(('default_hooks', key), value, says, old)

    def _unread(
        self, path: tuple[str, ...], value: Any, says: str, names: Collection[str]
    ) -> UserError:
        """The error for a key whose last name no one knows."""
        whole = path
        while isinstance(value, dict) and (inner := [k for k in value if k != _DELETE]):
            whole, value = (*whole, str(inner[0])), value[inner[0]]
        found = hints(whole, len(path) - 1, set(map(str, names)), self.is_read)
        hint = f'; did you mean {listed(found, " or ", 4)}?' if found else ''
        return UserError(f'{self.source}: no one reads {".".join(whole)}: {says}{hint}')
