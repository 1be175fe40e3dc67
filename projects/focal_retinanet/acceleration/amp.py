"""Mixed precision on GPUs and CPUs, as an optimizer wrapper of a config."""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from mmcv.cnn import Conv2d
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper as MMEngineAmpOptimWrapper
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.nn import functional as F

from focal_retinanet.acceleration.fast_conv import CONVS
from focal_retinanet.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(MMEngineAmpOptimWrapper):
    """mmengine's ``AmpOptimWrapper`` that also works on a CPU, in bf16.

    Args:
        loss_scale: Scale of the loss, see mmengine's class. A CPU does not use it,
            because bf16 has the range of fp32.
        dtype: 'float16' or 'bfloat16'. On a CPU, only 'bfloat16', which is the default
            there.
        **kwargs: Arguments of mmengine's class.

    Raises:
        ValueError: ``dtype`` is not 'bfloat16' on a CPU.
    """

    def __init__(
        self,
        loss_scale: str | float | dict = 'dynamic',
        dtype: str | torch.dtype | None = None,
        **kwargs,
    ) -> None:
        if get_device() != 'cpu':
            if isinstance(loss_scale, int):  # mmengine takes floats only
                loss_scale = float(loss_scale)
            super().__init__(loss_scale=loss_scale, dtype=dtype, **kwargs)
            return
        if dtype not in (None, 'bfloat16', torch.bfloat16):
            raise ValueError(
                f'mixed precision on a CPU needs dtype=bfloat16, got {dtype!r}'
            )
        # mmengine's constructor would insist on a GPU.
        OptimWrapper.__init__(self, **kwargs)
        self.cast_dtype = torch.bfloat16
        self.loss_scaler = _disabled_scaler()
        self._scale_update_param = None
        self._models: weakref.WeakSet[nn.Module] = weakref.WeakSet()

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enable autocast; on a CPU, also pad the small maps of the model."""
        if get_device() == 'cpu' and model not in self._models:
            self._models.add(model)
            pad_small_maps(model)
        with super().optim_context(model):
            yield


def pad_small_maps(model: nn.Module) -> None:
    """Pad the inputs of strided convolutions that are smaller than the stride.

    On a CPU, torch 2.1 to 2.14 leave the gradient of their weights in bf16
    uninitialized, for example for P7 of an image of up to 64 pixels. Zeros below and on
    the right do not change the output.

    Args:
        model: Model whose ``Conv2d`` get a hook. Other subclasses, which may pad their
            input themselves, stay as they are.
    """
    for module in model.modules():
        if type(module) in (*CONVS, Conv2d) and max(_both(module.stride)) > 1:
            module.register_forward_pre_hook(_pad_small_map, with_kwargs=True)


def _pad_small_map(
    conv: nn.Conv2d, inputs: tuple, options: dict
) -> tuple[tuple, dict] | None:
    if isinstance(conv.padding, str) or conv.padding_mode != 'zeros':
        return None
    # Each class has its own name for the maps.
    given = (*inputs, *options.values())
    if len(given) != 1 or not isinstance(given[0], Tensor):
        return None  # the convolution raises
    (maps,) = given
    added = []
    for size, kernel, stride, padding, dilation in zip(
        maps.shape[-2:],
        _both(conv.kernel_size),
        _both(conv.stride),
        _both(conv.padding),
        _both(conv.dilation),
        strict=True,
    ):
        reach = dilation * (kernel - 1) + 1 - 2 * padding
        is_same = (size - reach) // stride == (stride - reach) // stride
        added.append(stride - size if size < stride and is_same else 0)
    if not any(added):
        return None
    padded = F.pad(maps, (0, added[1], 0, added[0]))
    return ((padded,), {}) if inputs else ((), dict.fromkeys(options, padded))


def _both(value: int | Sequence[int]) -> tuple[int, int]:
    """Return the numbers for height and width, in any form that PyTorch takes."""
    height, *width = (value,) if isinstance(value, int) else value
    return height, *(width or (height,))


def _disabled_scaler():
    if hasattr(torch.amp, 'GradScaler'):  # from torch 2.3 on
        return torch.amp.GradScaler('cpu', enabled=False)
    return torch.cuda.amp.GradScaler(enabled=False)
