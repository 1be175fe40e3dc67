"""Compare our components with others' in one process: agreement, time, memory.

Ours and each peer get the same inputs, must give the same results, and then run
in turn. Printed and written are medians, spread (inter-quartile range over the
median), ratio (the peer's median over ours), peak memory beyond what was in use
before the call, and where memory is what limits, the bandwidth that was reached
and its share of what a copy reached in the same run.

Examples:
    python benchmarks/run.py loss --dtype bf16 --json benchmarks/loss.json
    python benchmarks/run.py assign --objects 0,1,10,100,1000
    python benchmarks/run.py step --config CONFIG --height 320 --width 320
    python benchmarks/run.py infer --config CONFIG --checkpoint FILE --images 50
    python benchmarks/run.py eval --ann-file val.json --results detections.json
    python benchmarks/run.py CASE --help
"""

import os
from importlib import import_module

import torch

from focal_retinanet.cli.console import quiet_warnings
from focal_retinanet.cli.errors import UserError, clear_errors
from harness.arguments import make_parser


def main() -> None:
    args = make_parser(__doc__).parse_args()
    if args.no_compiler:  # read when the kernels are first needed
        os.environ['FOCAL_RETINANET_NATIVE'] = '0'
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda needs a GPU, and none is there')
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    quiet_warnings()
    import_module('harness.command').run(args)


if __name__ == '__main__':
    with clear_errors():
        main()
