"""Peak memory of one call, beyond what was in use before it."""

import ctypes
import gc
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_PROCESS = Path('/proc/self')
_MIB = 2**20


def peak_memory(run: Callable[[], Any], device: torch.device) -> float | None:
    """Peak of one call in MiB above the start, in a pass that is not timed.

    On a GPU these are the bytes that torch's allocator handed out. On a CPU it
    is the kernel's own record of the largest resident set, of this process
    without its children: exact for what the process touches, but the allocator
    may reuse what it kept from earlier calls, which makes small figures
    (below some 10 MiB) too low.

    Returns:
        None where the system keeps no such record (not Linux).
    """
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / _MIB

    _give_back_free_memory()
    try:
        (_PROCESS / 'clear_refs').write_text('5')  # the peak begins anew
        before = _resident('VmRSS')
        run()
        return max(0, _resident('VmHWM') - before) / 1024
    except OSError:
        return None


def _give_back_free_memory() -> None:
    """Have the C library return what it keeps, where it can."""
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)  # glibc only
    if trim is not None:
        trim(0)


def _resident(name: str) -> int:
    """KiB of a line of the process's status."""
    return int(re.search(rf'{name}:\s+(\d+)', (_PROCESS / 'status').read_text())[1])
