"""Implementations of the same work, compared: agreement, then time, then memory."""

import argparse
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

from harness.agreement import Disagreement
from harness.timing import peak_memory, spread, time_interleaved

OURS = 'ours'
COPY = 'copy'


class LeftOut(Exception):
    """A peer takes no part in a case; the message says why."""


@dataclass
class Contestant:
    """One implementation, ready to run.

    Args:
        run: Function that does the work once and returns its result.
        agree: Function of our result and this one's that says how well they
            agree, or raises :class:`~harness.agreement.Disagreement`. None if the
            two cannot be compared.
        note: What a reader has to know about this implementation.
    """

    run: Callable[[], Any]
    agree: Callable[[Any, Any], str] | None = None
    note: str = ''


@dataclass
class Case:
    """One comparison at one set of sizes.

    Args:
        sizes: Sizes that decide how much work there is, for the report.
        inputs: Arguments of the functions that make the contestants.
        least_bytes: Bytes that any implementation has to read and write; None
            if memory traffic is not the limit.
    """

    sizes: dict[str, Any]
    inputs: tuple
    least_bytes: int | None = None


def measure(
    case: Case,
    builders: Mapping[str, Callable[..., Contestant]],
    args: argparse.Namespace,
) -> dict:
    """Compare implementations on a case.

    Args:
        case: Sizes and inputs.
        builders: Functions that make the contestants of the inputs, by name; ours
            is the first.
        args: The flags of :func:`~harness.arguments.add_measurement`.

    Returns:
        The case's part of a record; benchmarks/README.md describes it.

    Raises:
        Disagreement: A peer's result differs from ours.
    """
    contestants, left_out = {}, {}
    for name, build in builders.items():
        try:
            contestants[name] = build(*case.inputs)
        except LeftOut as reason:
            left_out[name] = str(reason)
    agreement, cannot = check_agreement(contestants, title(args.case, case.sizes))
    left_out |= cannot
    contestants = {k: v for k, v in contestants.items() if k not in cannot}
    if case.least_bytes:
        contestants[COPY] = _copy(case.least_bytes, args.device)
    measurements = time_interleaved(
        {name: contestant.run for name, contestant in contestants.items()},
        args.runs,
        args.warmup,
        args.min_run_ms,
    )
    rows = []
    for name, contestant in contestants.items():
        measured = measurements[name]
        row = dict(
            name=name,
            median_ms=measured.median * 1e3,
            spread=spread(measured),
            ratio=measured.median / measurements[OURS].median,
            calls_per_run=measured.number_per_run,
            runs_ms=[seconds * 1e3 for seconds in measured.times],
            peak_mib=peak_memory(contestant.run, torch.device(args.device)),
            agreement=agreement.get(name),
            note=contestant.note,
        )
        if case.least_bytes:
            row['gb_per_s'] = case.least_bytes / measured.median / 1e9
            row['of_copy'] = measurements[COPY].median / measured.median
        rows.append(row)
    return dict(
        name=args.case,
        sizes=case.sizes,
        least_bytes=case.least_bytes,
        contestants=rows,
        left_out=left_out,
    )


def check_agreement(
    contestants: Mapping[str, Contestant], title: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Compare the result of each peer with ours.

    Returns:
        How well each agrees, by name, and why others cannot do the work, by name.

    Raises:
        Disagreement: One does not; the message has its name and the difference.
    """
    ours, *peers = contestants
    expected = contestants[ours].run()
    agreement, cannot = {}, {}
    for name in peers:
        try:
            result = contestants[name].run()
        except NotImplementedError as error:  # such as a kernel without bf16
            cannot[name] = str(error)
            continue
        agree = contestants[name].agree
        try:
            agreement[name] = agree(expected, result) if agree else 'not compared'
        except Disagreement as error:
            raise Disagreement(
                f'{title}: ours and {name} disagree: our {error}'
            ) from error
    return agreement, cannot


def import_peer(module: str) -> ModuleType:
    """Import a module of a peer.

    Raises:
        LeftOut: It is not installed, or does not fit the other packages.
    """
    try:
        return importlib.import_module(module)
    except Exception as error:  # a binary that does not fit torch raises anything
        raise LeftOut(f'cannot be imported: {error}') from error


def title(name: str, sizes: Mapping[str, Any]) -> str:
    """Return the name and the sizes of a case on one line."""
    return f'{name}: ' + ', '.join(f'{key} {value}' for key, value in sizes.items())


def _copy(num_bytes: int, device: str) -> Contestant:
    """Make a copy that reads one half of the bytes and writes the other."""
    source = torch.zeros(max(1, num_bytes // 2), dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return Contestant(lambda: target.copy_(source))
