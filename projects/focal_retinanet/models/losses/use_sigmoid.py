"""What a loss's config says of ``use_sigmoid``, which heads read before they build it.

mmdet's heads ask ``loss_cls.get('use_sigmoid', False)`` of the config, whatever
the default of the loss itself. A loss of sigmoids whose config is silent would
get one channel too many, with the background trained as one more class, and
nothing would say so.
"""

import inspect
import sys
from abc import ABCMeta
from collections.abc import Callable

from focal_retinanet.registry import MODELS

_BUILDER = 'mmengine.registry.build_functions'


class SaysUseSigmoid(ABCMeta):
    """Class of the losses whose configs have to say ``use_sigmoid``.

    Called from Python, such a loss keeps its default. A config is refused when it
    is built, by a name or (as in lazy configs) by the class itself.
    """

    def __call__(cls, *args, **kwargs):
        # mmengine gives a class its arguments and nothing else, so the caller is
        # the one sign of a config.
        caller = sys._getframe(1).f_globals.get('__name__')
        if caller == _BUILDER and 'use_sigmoid' not in kwargs:
            raise ValueError(
                f'the config of {cls.__name__} must say use_sigmoid: write '
                f"dict(type='focal_retinanet.{cls.__name__}', use_sigmoid=True, ...). "
                "mmdet's heads read it from the config and take a loss that does not "
                'say for a softmax: they would add a channel and train the '
                'background as one more class'
            )
        return super().__call__(*args, **kwargs)


def with_use_sigmoid(loss_cls: dict) -> dict:
    """The config of a loss with its ``use_sigmoid`` spelled out.

    For a head that goes by the default of the loss itself.

    Args:
        loss_cls: config of any loss; ``type`` is a name or a class.

    Returns:
        A copy, or ``loss_cls`` itself where it says ``use_sigmoid`` already or
        where its loss has no such argument.
    """
    if 'use_sigmoid' in loss_cls:
        return loss_cls
    with MODELS.switch_scope_and_registry(loss_cls.get('_scope_')) as registry:
        loss = loss_cls['type']
        loss = registry.get(loss) if isinstance(loss, str) else loss
    default = _default_use_sigmoid(loss)
    return loss_cls if default is None else {**loss_cls, 'use_sigmoid': default}


def _default_use_sigmoid(loss: type | Callable | None) -> bool | None:
    """Default of the argument, which a subclass may pass on in its ``**kwargs``."""
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
