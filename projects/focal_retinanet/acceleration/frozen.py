"""What is computed of weights, kept while the weights do not change.

Batch norms are folded into weights and weights are transformed in every call, because
nothing shows whether they changed (a write through ``.data`` leaves no trace). At the
size of a photo this costs a hundredth of the time, at 320x320 pixels a sixth. Whoever
only detects knows that the weights stay, and says so by :func:`freeze_weights`.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

Result = TypeVar('Result')
# By module, so that a copy of a frozen module is not frozen.
_kept: WeakKeyDictionary[nn.Module, dict] = WeakKeyDictionary()


def freeze_weights(model: nn.Module) -> None:
    """Compute once what convolutions compute of their weights, until further notice.

    Calls that record gradients still compute it each time. A change that PyTorch counts
    (an optimizer's step, ``load_state_dict``) is noticed, one through ``.data`` is not.
    It takes memory: four times that of the weights of the 3x3 convolutions by
    Winograd's algorithm, and once that of the weights with a batch norm.

    Args:
        model: Any model; only its convolutions of
            :mod:`focal_retinanet.acceleration.fast_conv` compute anything of weights.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            _kept[module] = {}


def unfreeze_weights(model: nn.Module) -> None:
    """End :func:`freeze_weights`, and free the memory."""
    for module in model.modules():
        _kept.pop(module, None)


def keep(
    module: nn.Module,
    name: str,
    sources: Sequence[Tensor | None],
    compute: Callable[[], Result],
) -> Result:
    """Return ``compute()``, or what it returned before if the module is frozen.

    Args:
        module: Module that computes it.
        name: Name of the result.
        sources: Tensors that it is computed of.
        compute: Function that computes it.
    """
    kept = _kept.get(module)
    if kept is None or torch.is_grad_enabled():
        return compute()
    tensors = [x for x in sources if x is not None]
    if any(x.is_inference() for x in tensors):  # their changes are not counted
        return compute()
    state = [(x.data_ptr(), x._version) for x in tensors]
    known = kept.get(name)
    if known is None or known[0] != state:
        # A tensor from inference mode would not count its changes.
        with torch.inference_mode(False), torch.no_grad():
            known = kept[name] = (state, compute())
    return known[1]
