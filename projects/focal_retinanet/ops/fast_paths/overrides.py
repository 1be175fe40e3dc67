"""Whether somebody put their own code where a fast path would not call it."""

from torch import nn
from torch.nn.modules import module as nn_module

HOOKS = (
    '_forward_pre_hooks',
    '_forward_hooks',
    '_backward_pre_hooks',
    '_backward_hooks',
)


def overridden(obj: object, base: type, *names: str) -> list[str]:
    """Return the methods among these that an object does not have from a class.

    Args:
        obj: Object whose class derives from ``base``, or any other object, which has
            none of them from ``base``.
        base: Class whose methods the fast path stands for.
        names: Names of methods of ``base``.
    """
    return [
        name
        for name in names
        if name in getattr(obj, '__dict__', {})
        or getattr(type(obj), name, None) is not getattr(base, name)
    ]


def has_hooks(module: nn.Module, *names: str) -> bool:
    """Whether a module, or all modules, have hooks.

    Args:
        module: Any module.
        names: Kinds of hooks, of :data:`HOOKS`; all of them by default. Hooks of all
            modules are looked at for every kind.
    """
    return any(vars(module)[name] for name in names or HOOKS) or any(
        getattr(nn_module, f'_global{name}') for name in HOOKS
    )
