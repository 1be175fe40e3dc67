"""Time of interleaved runs, and peak memory of one call."""

import collections
import ctypes
import gc
import math
import re
import timeit
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.benchmark import Measurement, TaskSpec, timer

_MAX_CALLS = 1000  # more would only matter for calls of a few microseconds
_PROCESS = Path('/proc/self')
_MIB = 2**20


def time_interleaved(
    functions: Mapping[str, Callable[[], Any]],
    runs: int,
    warmup: int,
    min_run_ms: float,
) -> dict[str, Measurement]:
    """Time functions in turn, so that other load on the machine meets all alike.

    Each round begins with another function. torch's timer waits for the GPU, and
    timeit stops the garbage collector.

    Args:
        functions: Functions to time, by name.
        runs: Timed runs per function.
        warmup: Calls of each function before its first run.
        min_run_ms: Shortest run in milliseconds; a run has as many calls as that
            takes, up to 1000.

    Returns:
        The measurement of each function, by name, in seconds.
    """
    # torch's own Timer would add two calls to each run to warm up.
    timers = {name: timeit.Timer(run, timer=timer) for name, run in functions.items()}
    calls = {}
    for name, run in functions.items():
        for _ in range(warmup):
            run()
        once_ms = timers[name].timeit(1) * 1e3
        wanted = math.ceil(min_run_ms / max(once_ms, 1e-6))
        calls[name] = min(max(wanted, 1), _MAX_CALLS)
    times = {name: [] for name in functions}
    order = collections.deque(functions)
    for _ in range(runs):
        for name in order:
            gc.collect()
            times[name].append(timers[name].timeit(calls[name]))
        order.rotate(-1)
    return {
        name: Measurement(calls[name], times[name], TaskSpec(name, setup=''))
        for name in functions
    }


def spread(measurement: Measurement) -> float:
    """Return the interquartile range over the median; 0 for a single run."""
    return measurement.iqr / measurement.median


def peak_memory(run: Callable[[], Any], device: torch.device) -> float | None:
    """Return the peak of one call in MiB, above what was in use before it.

    On a GPU it counts the bytes that torch's allocator hands out. On a CPU it is
    Linux's record of the largest resident set of this process, without its
    children. The allocator may reuse what earlier calls left, so that figures
    below some 10 MiB are too low.

    Returns:
        None if the system keeps no such record (not Linux).
    """
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / _MIB

    if trim := getattr(ctypes.CDLL(None), 'malloc_trim', None):  # glibc only
        trim(0)
    try:
        (_PROCESS / 'clear_refs').write_text('5')  # resets VmHWM
        before = _resident('VmRSS')
        run()
        return max(0, _resident('VmHWM') - before) / 1024
    except OSError:
        return None


def _resident(name: str) -> int:
    """Return a line of the process's status in KiB."""
    return int(re.search(rf'{name}:\s+(\d+)', (_PROCESS / 'status').read_text())[1])
