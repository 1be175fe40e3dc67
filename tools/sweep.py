"""Train the rows of a table, or any list of configs, with several seeds.

A sweep that was stopped goes on where it was, by the same command; what has
ended is not repeated, and rows that are the same are run once. A run that
fails is reported and does not stop the rest. Each run is in
WORK_DIR/NAME/seed-N, with its detections for tools/compare.py.

Examples:
    python tools/sweep.py configs/ablations/table1b.py
    python tools/sweep.py configs/ablations/table1[ab].py --seeds 0 1 2 \\
        --base configs/cherry/retinanet_mobilenetv2_fpn_4e_cherry-320px.py --jobs 2
    python tools/sweep.py configs/ablations/table1b.py:gamma-2.0 MINE.py
    python tools/sweep.py MINE.py configs/baselines/*.py --base MINE.py
"""

import argparse
import sys
from pathlib import Path

from focal_retinanet.cli.arguments import add_cfg_options, at_least, tool_parser
from focal_retinanet.cli.console import quiet_mmengine
from focal_retinanet.cli.errors import UserError, clear_errors
from focal_retinanet.engine.sweep import execute, plan, slurm_command


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument(
        'configs', nargs='+', help='tables (all rows), TABLE.py:ROW, or configs'
    )
    parser.add_argument(
        '--base',
        help="config of your own data that takes the place of the tables' own, and "
        'whose data configs with data_from take',
    )
    parser.add_argument(
        '--seeds',
        type=at_least(0),
        nargs='+',
        default=[0, 1, 2],
        help='seeds of each config (default: 0 1 2)',
    )
    parser.add_argument(
        '--work-dir',
        default='work_dirs/sweep',
        help='folder of the work directories of all runs (default: %(default)s)',
    )
    parser.add_argument(
        '--jobs',
        type=at_least(1),
        default=1,
        help='number of runs at a time; each takes the GPU that has the fewest runs, '
        'of those in $CUDA_VISIBLE_DEVICES or of all (default: 1)',
    )
    add_cfg_options(parser, purpose='override settings of all configs')
    parser.add_argument('--dry-run', action='store_true', help='only list the runs')
    parser.add_argument(
        '--launcher',
        choices=['none', 'slurm'],
        default='none',
        help='slurm submits each run by srun; $SRUN_ARGS is passed on',
    )
    parser.add_argument('--partition', help='partition of Slurm')
    parser.add_argument(
        '--gpus', type=int, default=8, help='GPUs of a Slurm job (default: 8)'
    )
    parser.add_argument(
        '--gpus-per-node', type=int, default=8, help='GPUs of a node (default: 8)'
    )
    parser.add_argument(
        '--cpus-per-task', type=int, default=5, help='CPUs of a process (default: 5)'
    )
    args = parser.parse_args()
    if args.launcher == 'slurm' and args.partition is None:
        parser.error('--launcher slurm needs --partition')
    return args


def main() -> None:
    args = parse_args()
    with quiet_mmengine():
        runs, same = plan(
            args.configs, args.seeds, args.work_dir, args.base, args.cfg_options
        )
    for name, other in same.items():
        print(f'{name} is the same as {other}, which is run')
    if args.dry_run:
        for run in runs:
            print(run.folder)
        return
    train = [sys.executable, str(Path(__file__).with_name('train.py'))]
    if args.launcher == 'slurm':
        srun = slurm_command(
            args.partition, 'sweep', args.gpus, args.gpus_per_node, args.cpus_per_task
        )
        train = [*srun, *train, '--launcher=slurm']
    outcomes = execute(
        runs,
        train,
        args.jobs,
        lambda line: print(line, flush=True),
        is_local=args.launcher == 'none',
    )
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        raise UserError(
            f'{len(failed)} of {len(outcomes)} runs failed; the same command '
            'tries them again'
        )


if __name__ == '__main__':
    with clear_errors():
        main()
