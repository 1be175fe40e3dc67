"""Keys of a config file that no one reads, and that look like a mistake."""

import difflib
from collections.abc import Iterator

from mmengine.config import Config

from focal_retinanet.cli.naming import few
from focal_retinanet.config.key_hints import copies, hints, is_misspelt, is_of_mmdet_2
from focal_retinanet.config.known_keys import ALWAYS, known_keys, top_level_keys

#: Dicts of a config of which some code takes the keys that it knows, without a check.
_LENIENT = (
    ('model', 'train_cfg'),
    ('model', 'test_cfg'),
    ('optim_wrapper', 'paramwise_cfg'),
    ('env_cfg',),
    ('auto_scale_lr',),
)


def describe_unread_keys(cfg: Config) -> list[str]:
    """Return a line for each key that is misspelt or of mmdet 2.

    A config file may have variables of any name, so other top-level keys are left
    alone, and so are these if their value is used elsewhere. Inside of dicts whose
    reader looks for a few keys and ignores all others, no name is a variable.

    Args:
        cfg: Config of a run.
    """
    content = cfg.to_dict()
    names = top_level_keys(content).names
    is_read = {key: value for key, value in content.items() if key in names}
    lines = []
    for key, value in content.items():
        # Pipelines are variables by habit.
        is_likely = is_misspelt(key, names) and not key.endswith('_pipeline')
        if key in names or not (is_of_mmdet_2(key) or is_likely):
            continue
        if copies(key, content, names):
            continue
        whole = (
            (key, next(iter(value))) if isinstance(value, dict) and value else (key,)
        )
        found = hints(tuple(map(str, whole)), 0, names, is_read) or hints(
            (key,), 0, names, is_read
        )
        hint = f'; did you mean {few(found, 4, " or ")}?' if found else ''
        lines.append(f'{cfg.filename}: no one reads {key}{hint}')
    return lines + _inside(cfg, content)


def _inside(cfg: Config, content: dict) -> list[str]:
    """Return a line for each key that the reader of an inner dict would ignore."""
    lines = []
    for path, node in _lenient_dicts(content):
        known = known_keys(path, node, content)
        unknown = set(node) - known.names if known.is_complete else ()
        for key in sorted(map(str, unknown)):
            names = sorted(known.names - ALWAYS)
            close = difflib.get_close_matches(key, names, 1)
            hint = (
                f'did you mean {close[0]}?' if close else f'known are {few(names, 8)}'
            )
            lines.append(
                f'{cfg.filename}: no one reads {".".join((*path, key))}; {hint}'
            )
    return lines


def _lenient_dicts(content: dict) -> Iterator[tuple[tuple[str, ...], dict]]:
    """Yield the dicts that a config has, and whose readers ignore unknown keys."""
    custom_keys = ('optim_wrapper', 'paramwise_cfg', 'custom_keys')
    inner = _value(content, custom_keys)
    for path in (*_LENIENT, *((*custom_keys, str(key)) for key in inner)):
        if node := _value(content, path):
            yield path, node


def _value(content: dict, path: tuple[str, ...]) -> dict:
    """Return the dict in a place, or an empty one if there is none."""
    node = content
    for key in path:
        node = node.get(key)
        if not isinstance(node, dict):
            return {}
    return node
