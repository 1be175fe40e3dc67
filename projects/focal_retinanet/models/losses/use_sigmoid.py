"""The ``use_sigmoid`` in a loss's config, which heads read before they build the loss.

mmdet's heads evaluate ``loss_cls.get('use_sigmoid', False)`` on the config, whatever
the default of the loss itself. If the config of a sigmoid loss does not set it, the
head silently adds a channel and trains the background as one more class.
"""

import inspect
import sys
from abc import ABCMeta
from collections.abc import Callable

from focal_retinanet.registry import MODELS

_BUILDER = 'mmengine.registry.build_functions'


class SaysUseSigmoid(ABCMeta):
    """Metaclass of losses whose configs have to set ``use_sigmoid``.

    A loss that Python code creates keeps its default. A config without ``use_sigmoid``
    is refused when it is built, whether its ``type`` is a name or (as in lazy configs)
    a class.
    """

    def __call__(cls, *args, **kwargs):
        # mmengine passes the arguments of the config and nothing else, so only the
        # caller shows that there is a config.
        caller = sys._getframe(1).f_globals.get('__name__')
        if caller == _BUILDER and 'use_sigmoid' not in kwargs:
            raise ValueError(
                f'the config of {cls.__name__} must set use_sigmoid: write '
                f"dict(type='focal_retinanet.{cls.__name__}', use_sigmoid=True, ...). "
                "mmdet's heads read it from the config, and without it they assume a "
                'softmax: they would add a channel and train the background as one '
                'more class'
            )
        return super().__call__(*args, **kwargs)


def with_use_sigmoid(loss_cls: dict) -> dict:
    """Set ``use_sigmoid`` in a loss's config to the default of the loss.

    Args:
        loss_cls: Config of any loss; ``type`` is a name or a class.

    Returns:
        Copy of the config; ``loss_cls`` itself if it has ``use_sigmoid`` already or if
        the loss has no such argument.
    """
    if 'use_sigmoid' in loss_cls:
        return loss_cls
    with MODELS.switch_scope_and_registry(loss_cls.get('_scope_')) as registry:
        loss = loss_cls['type']
        loss = registry.get(loss) if isinstance(loss, str) else loss
    default = _default_use_sigmoid(loss)
    return loss_cls if default is None else {**loss_cls, 'use_sigmoid': default}


def _default_use_sigmoid(loss: type | Callable | None) -> bool | None:
    """Return the default of the argument, also if ``**kwargs`` pass it to a base."""
    if loss is None:
        return None
    inits = [c.__init__ for c in loss.__mro__] if inspect.isclass(loss) else [loss]
    for init in inits:
        parameters = inspect.signature(init).parameters
        if 'use_sigmoid' in parameters:
            default = parameters['use_sigmoid'].default
            return None if default is inspect.Parameter.empty else default
        if all(p.kind != p.VAR_KEYWORD for p in parameters.values()):
            return None
    return None
