"""Times of interleaved runs.

All contestants run in turn in one process, so that whatever else the machine
does meets each of them alike, and every round begins with another one. A run
is as many calls as take ``min_run_ms``; its time is that of one call.
"""

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

# More would only matter for calls of a few microseconds.
_MAX_CALLS = 1000


def time_calls(run: Callable[[], Any], calls: int, device: torch.device) -> float:
    """Milliseconds of one call, the mean of some in a row.

    On a GPU its own clock is read, from an idle start to the end of the last
    call's work. Calls queue up behind one another as they do in training, so
    that the time to launch them shows only where it is longer than they are.
    """
    if device.type == 'cuda':
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        for _ in range(calls):
            run()
        end.record()
        torch.cuda.synchronize(device)
        return start.elapsed_time(end) / calls
    begin = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - begin) * 1e3 / calls


def time_interleaved(
    contestants: Mapping[str, Callable[[], Any]],
    device: torch.device,
    runs: int,
    warmup: int,
    min_run_ms: float,
) -> dict[str, dict]:
    """Time contestants in turn.

    Args:
        contestants: what to call, by name.
        device: where the work is done.
        runs: of each contestant that count.
        warmup: calls of each beforehand.
        min_run_ms: a run has as many calls as take this long.

    Returns:
        By name ``calls_per_run`` and ``runs_ms``, one time of a call for each run.
    """
    names = list(contestants)
    times = {}
    for name, run in contestants.items():
        for _ in range(warmup):
            run()
        once = time_calls(run, 1, device)
        calls = max(1, min(_MAX_CALLS, math.ceil(min_run_ms / max(once, 1e-6))))
        times[name] = dict(calls_per_run=calls, runs_ms=[])
    for number in range(runs):
        for shift in range(len(names)):
            name = names[(number + shift) % len(names)]
            gc.collect()
            gc.disable()  # a collection would fall into some runs only
            try:
                taken = time_calls(
                    contestants[name], times[name]['calls_per_run'], device
                )
            finally:
                gc.enable()
            times[name]['runs_ms'].append(taken)
    return times


def spread(values: Sequence[float]) -> float:
    """Inter-quartile range over the median; 0 of a single value."""
    if len(values) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(values, n=4, method='inclusive')
    return (high - low) / middle
