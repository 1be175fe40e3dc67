"""A model of ours as mmdet's own components make it."""

from collections.abc import Mapping
from typing import Any

from focal_retinanet.models.losses import with_use_sigmoid

# What mmdet's components of the same names do not know.
_OWN_ARGUMENTS = {
    'RetinaHead': {'pi'},
    'AnchorGenerator': set(),
    'FocalLoss': set(),
    'MaxIoUAssigner': set(),
}
_OURS = 'focal_retinanet.'


def stock_config(config: Any) -> Any:
    """A copy in which each component of ours is mmdet's of the same name.

    Args:
        config: of a model or a part of one; dicts and lists in any depth.
    """
    if isinstance(config, list | tuple):
        return type(config)(stock_config(item) for item in config)
    if not isinstance(config, Mapping):
        return config
    # A ConfigDict stays one.
    result = type(config)({key: stock_config(value) for key, value in config.items()})
    name = str(config.get('type', ''))
    if name.startswith(_OURS) and (name := name.removeprefix(_OURS)) in _OWN_ARGUMENTS:
        result = (
            type(config)(with_use_sigmoid(result)) if name == 'FocalLoss' else result
        )
        result['type'] = f'mmdet.{name}'
        for argument in _OWN_ARGUMENTS[name]:
            result.pop(argument, None)
    return result
