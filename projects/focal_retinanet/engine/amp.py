"""Mixed precision as an optimizer wrapper of the config."""

import torch
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper as MMEngineAmpOptimWrapper
from mmengine.optim import OptimWrapper

from focal_retinanet.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(MMEngineAmpOptimWrapper):
    """mmengine's ``AmpOptimWrapper``, on CPUs as well: in bf16, without a scaler.

    Args:
        loss_scale: as mmengine's; bf16 has the range of fp32 and needs none.
        dtype: 'float16' or 'bfloat16'; on a CPU only the latter, which is its
            default there.
        **kwargs: as mmengine's.

    Raises:
        ValueError: another dtype on a CPU.
    """

    def __init__(
        self,
        loss_scale: str | float | dict = 'dynamic',
        dtype: str | torch.dtype | None = None,
        **kwargs,
    ) -> None:
        if get_device() != 'cpu':
            super().__init__(loss_scale=loss_scale, dtype=dtype, **kwargs)
            return
        if dtype not in (None, 'bfloat16', torch.bfloat16):
            raise ValueError(f'dtype={dtype!r}: mixed precision on a CPU is bfloat16')
        # Not mmengine's constructor, which insists on a GPU.
        OptimWrapper.__init__(self, **kwargs)
        self.cast_dtype = torch.bfloat16
        self.loss_scaler = _scaler_that_does_nothing()
        self._scale_update_param = None


def _scaler_that_does_nothing():
    if hasattr(torch.amp, 'GradScaler'):  # from torch 2.3 on
        return torch.amp.GradScaler('cpu', enabled=False)
    return torch.cuda.amp.GradScaler(enabled=False)
