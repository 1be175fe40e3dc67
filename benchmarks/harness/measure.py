"""Compare the contestants of a case: agreement, then times, then memory."""

import statistics
from dataclasses import dataclass

import torch

from harness.agreement import Disagreement
from harness.contest import OURS, Case
from harness.memory import peak_memory
from harness.timing import spread, time_interleaved

COPY = 'copy'


@dataclass(frozen=True)
class Settings:
    """How a case is measured; see :func:`time_interleaved`."""

    device: torch.device
    runs: int = 7
    warmup: int = 2
    min_run_ms: float = 20.0


def measure(case: Case, settings: Settings) -> dict:
    """Check and measure a case.

    Returns:
        ``name``, ``sizes``, ``left_out`` and ``contestants``, a list with for
        each its name, note and agreement, ``median_ms``, ``spread`` (inter-
        quartile range over the median), ``ratio`` (its median over ours),
        ``peak_mib``, ``runs_ms``, ``calls_per_run``; where the case has its
        ``least_bytes``, ``gb_per_s`` counts only these, and ``of_copy`` is
        that over what a copy of as many bytes reached in the same run.

    Raises:
        Disagreement: a peer gives something else than ours.
    """
    agreement = check_agreement(case)
    contestants = {c.name: c.run for c in case.contestants}
    timed = dict(contestants)
    if case.least_bytes:
        timed[COPY] = _copy(case.least_bytes, settings.device)
    times = time_interleaved(
        timed, settings.device, settings.runs, settings.warmup, settings.min_run_ms
    )
    # Of the copy too: it has to be gone before memory is looked at.
    timed.clear()
    medians = {name: statistics.median(t['runs_ms']) for name, t in times.items()}

    def row(name: str) -> dict:
        result = dict(
            name=name,
            median_ms=medians[name],
            spread=spread(times[name]['runs_ms']),
            ratio=medians[name] / medians[OURS],
        )
        if case.least_bytes:
            result['gb_per_s'] = case.least_bytes / medians[name] / 1e6
            result['of_copy'] = medians[COPY] / medians[name]
        return result | times[name]

    rows = [
        row(c.name)
        | dict(
            peak_mib=peak_memory(c.run, settings.device),
            agreement=agreement[c.name],
            note=c.note,
        )
        for c in case.contestants
    ]
    if case.least_bytes:
        rows.append(row(COPY) | dict(peak_mib=None, agreement=None, note=''))
    return dict(
        name=case.name,
        sizes=case.sizes,
        least_bytes=case.least_bytes,
        contestants=rows,
        left_out=case.left_out,
    )


def check_agreement(case: Case) -> dict[str, str | None]:
    """How well each contestant agrees with ours, by name.

    Raises:
        Disagreement: one does not; names it and the difference.
    """
    ours, *peers = case.contestants
    expected = ours.run()
    agreement: dict[str, str | None] = {ours.name: None}
    for peer in peers:
        result = peer.run()
        if peer.agree is None:
            agreement[peer.name] = 'not compared'
            continue
        try:
            agreement[peer.name] = peer.agree(expected, result)
        except Disagreement as error:
            raise Disagreement(
                f'{case.title}: ours and {peer.name} disagree: our {error}'
            ) from error
    return agreement


def _copy(num_bytes: int, device: torch.device):
    """A copy that reads half of the bytes and writes the other half."""
    source = torch.zeros(max(1, num_bytes // 2), dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return lambda: target.copy_(source)
