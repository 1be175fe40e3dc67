"""Keys of a config file that no one reads, and that look like a mistake."""

from mmengine.config import Config

from focal_retinanet.cli.naming import few
from focal_retinanet.config.key_hints import copies, hints, is_misspelt, is_of_mmdet_2
from focal_retinanet.config.known_keys import ALWAYS, known_keys, top_level_keys


def describe_unread_keys(cfg: Config) -> list[str]:
    """Return a line for each key that is misspelt or of mmdet 2.

    A config file may have variables of any name, so other top-level keys are left
    alone, and so are these if their value is used elsewhere. In ``model.train_cfg`` and
    ``model.test_cfg`` of a RetinaHead, which reads a few keys and ignores all others,
    no name is a variable.

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
    return lines + _of_the_head(cfg, content)


def _of_the_head(cfg: Config, content: dict) -> list[str]:
    lines = []
    for name in ('train_cfg', 'test_cfg'):
        path = ('model', name)
        node = (content.get('model') or {}).get(name) or {}
        known = known_keys(path, node, content)
        unknown = set(node) - known.names if known.is_complete else ()
        for key in sorted(map(str, unknown)):
            lines.append(
                f'{cfg.filename}: no one reads {".".join((*path, key))}; RetinaHead '
                f'reads {few(sorted(known.names - ALWAYS), 8)}'
            )
    return lines
