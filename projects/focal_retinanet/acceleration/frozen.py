"""What is computed of weights, kept while the weights do not change.

Batch norms are folded into weights and weights are transformed in every call, because
nothing shows whether they changed (a write through ``.data`` leaves no trace). At the
size of a photo this costs a hundredth of the time, at 320x320 pixels a sixth. Whoever
only detects knows that the weights stay, and says so by
:func:`focal_retinanet.acceleration.fast_conv.freeze_weights`.
"""

import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from focal_retinanet.ops.fast_paths.eager import is_compiling, is_eager

Result = TypeVar('Result')
# Most results of a module: the sizes of a head's five levels, for two sizes of images.
_MOST = 12
# By module, so that a copy of a frozen module is not frozen.
_kept: WeakKeyDictionary[nn.Module, dict] = WeakKeyDictionary()
_lock = threading.Lock()


def freeze(modules: Iterable[nn.Module]) -> None:
    """Keep the results of modules until :func:`unfreeze_weights`."""
    for module in modules:
        _kept[module] = {}


def unfreeze_weights(model: nn.Module) -> None:
    """End ``freeze_weights`` of a model, and free the memory."""
    for module in model.modules():
        _kept.pop(module, None)


def is_frozen(module: nn.Module) -> bool:
    """Return whether a module's results are kept in this call.

    A compiled graph keeps nothing: it would guard what is kept, which changes.
    """
    return not is_compiling() and module in _kept and not torch.is_grad_enabled()


def keep(
    module: nn.Module,
    name: Hashable,
    sources: Sequence[Tensor | None],
    compute: Callable[[], Result],
) -> Result:
    """Return ``compute()``, or what it returned before if the module is frozen.

    Args:
        module: Module that computes it.
        name: Name of the result. Of too many results, the oldest goes.
        sources: Tensors that it is computed of.
        compute: Function that computes it.
    """
    if not is_frozen(module):
        return compute()
    tensors = [x for x in sources if x is not None]
    if not is_eager(*tensors) or any(
        x.is_inference()  # their changes are not counted
        for x in tensors
    ):
        return compute()
    state = [(x, x.data_ptr(), x.shape, x.stride(), x._version) for x in tensors]
    with _lock:
        known = _kept.get(module, {}).pop(name, None)
    if known is None or not _are_same(known[0], state):
        # A tensor from inference mode would not count its changes.
        with torch.inference_mode(False), torch.no_grad():
            # With the tensors, and with their memory, which may be replaced by other
            # memory (``.data = ...``), so that nothing else can take their place.
            memory = [x.detach() for x in tensors]
            known = (state, compute(), memory)
    with _lock:
        kept = _kept.get(module, {})
        kept[name] = known  # as the latest one
        if len(kept) > _MOST:
            del kept[next(iter(kept))]
    return known[1]


def _are_same(before: list[tuple], now: list[tuple]) -> bool:
    return len(before) == len(now) and all(
        x is y and rest == others
        for (x, *rest), (y, *others) in zip(before, now, strict=True)
    )
