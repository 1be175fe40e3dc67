"""What autocast does on a device, by the names that each version of PyTorch has."""

import torch


def autocast_dtype(device_type: str) -> torch.dtype | None:
    """The type in which autocast computes convolutions; None where it is off.

    Args:
        device_type: 'cpu', 'cuda', ...
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
