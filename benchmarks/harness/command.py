"""A sub-command from its arguments to its report."""

import argparse
import logging
from importlib import import_module

import torch
from mmengine.logging import MMLogger

from harness.environment import describe_environment
from harness.measure import Settings, measure
from harness.report import check_output, print_result, write_json


def run(args: argparse.Namespace) -> dict:
    """Measure, print, and write what ``--json`` asks for.

    Raises:
        Disagreement: ours and a peer give different results.
        UserError: an argument does not fit.
    """
    if args.json is not None:
        check_output(args.json, args.force)
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    settings = Settings(
        device=torch.device(args.device),
        runs=args.runs,
        warmup=args.warmup,
        min_run_ms=args.min_run_ms,
    )
    record = dict(
        environment=describe_environment(),
        settings={key: _plain(value) for key, value in vars(args).items()},
        cases=[],
    )
    cases = import_module(f'cases.{args.case}')
    torch.manual_seed(args.seed)
    for case in cases.build(args):
        result = measure(case, settings)
        print_result(result)
        record['cases'].append(result)
    if args.json is not None:
        write_json(args.json, record)
    return record


def _plain(value: object) -> object:
    """As JSON can have it."""
    is_plain = value is None or isinstance(value, bool | int | float | list | dict)
    return value if is_plain else str(value)
