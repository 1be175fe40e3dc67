"""The dtype of autocast, across the names that versions of PyTorch give it."""

import torch


def autocast_dtype(device_type: str) -> torch.dtype | None:
    """Return the dtype in which autocast computes convolutions; None if it is off.

    Args:
        device_type: Type of the device: 'cpu', 'cuda', ...
    """
    if hasattr(torch, 'get_autocast_dtype'):  # torch 2.4
        if not torch.amp.is_autocast_available(device_type):  # such as 'meta'
            return None
        enabled = torch.is_autocast_enabled(device_type)
        return torch.get_autocast_dtype(device_type) if enabled else None
    if device_type == 'cpu':
        enabled = torch.is_autocast_cpu_enabled()
        return torch.get_autocast_cpu_dtype() if enabled else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None
