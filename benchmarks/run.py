"""Compare our components with others in one process: agreement, time, memory.

Ours and each peer get the same inputs, must give the same results, and then run
in turn. benchmarks/README.md says what each case measures, and what a record
holds. Run nothing else on the machine meanwhile.

Examples:
    python benchmarks/run.py loss --dtype bf16 --out loss.json
    python benchmarks/run.py assign --objects 0,1,10,100,1000
    python benchmarks/run.py step --config CONFIG --height 320 --width 320
    python benchmarks/run.py infer --config CONFIG --checkpoint FILE --images 50
    python benchmarks/run.py eval --ann-file val.json --results detections.json
    python benchmarks/run.py CASE --help
"""

import argparse
import os
from importlib import import_module
from types import ModuleType

import torch

from focal_retinanet.cli.console import quiet_mmengine, quiet_warnings
from focal_retinanet.cli.errors import UserError, clear_errors
from harness.arguments import HelpFormatter, add_measurement
from harness.contest import OURS, measure
from harness.environment import describe_environment
from harness.report import check_output, print_result, write_record

CASES = ('loss', 'assign', 'head', 'predict', 'step', 'infer', 'deploy', 'eval')


def find_case(name: str) -> ModuleType:
    return import_module(f'cases.{name}')


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='case', required=True, metavar='CASE')
    for name in CASES:
        case = find_case(name)
        text = case.__doc__.splitlines()[0]
        command = commands.add_parser(
            name, help=text, description=text, formatter_class=HelpFormatter
        )
        case.add_arguments(command)
        add_measurement(command, [peer for peer in case.CONTESTANTS if peer != OURS])
    return parser


def run(args: argparse.Namespace) -> dict:
    """Measure, print, and write the file of ``--out``.

    Returns:
        The record; benchmarks/README.md describes it.

    Raises:
        Disagreement: A peer's result differs from ours.
        UserError: An argument does not fit.
    """
    if args.out is not None:
        check_output(args.out, args.overwrite)
    case_module = find_case(args.case)
    builders = {name: case_module.CONTESTANTS[name] for name in (OURS, *args.peers)}
    record = dict(environment=describe_environment(), settings=vars(args), cases=[])
    torch.manual_seed(args.seed)
    with quiet_mmengine():
        for case in case_module.make_cases(args):
            result = measure(case, builders, args)
            print_result(result)
            record['cases'].append(result)
    if args.out is not None:
        write_record(args.out, record)
    return record


def main() -> None:
    quiet_warnings()
    args = make_parser().parse_args()
    if args.no_compiler:  # read when the kernels are first needed
        os.environ['FOCAL_RETINANET_NATIVE'] = '0'
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda needs a GPU, and none is there')
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    run(args)


if __name__ == '__main__':
    with clear_errors():
        main()
