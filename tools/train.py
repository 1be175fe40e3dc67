"""Train a detector.

Examples:
    python tools/train.py configs/bccd/retinanet_r18_fpn_24e_bccd-320px.py
    python tools/train.py CONFIG --work-dir work_dirs/mine --resume
    python tools/train.py CONFIG --cfg-options randomness.seed=1
"""

import argparse

import focal_retinanet.cli.cpu_threads  # noqa: F401

# isort: split
from focal_retinanet.cli.arguments import add_run_arguments, tool_parser
from focal_retinanet.cli.errors import UserError, clear_errors
from focal_retinanet.engine.config import build_runner, load_config
from focal_retinanet.engine.distributed import end_distributed


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add_run_arguments(parser)
    parser.add_argument(
        '--amp',
        action='store_true',
        help='automatic mixed precision: fp16, on a CPU bf16',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by this run's batch size over "
        'auto_scale_lr.base_batch_size of the config',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or from the latest one of the work '
        'directory; start where there is none',
    )
    args = parser.parse_args()
    options = args.cfg_options or {}
    if args.resume is not None and 'resume' in options:
        parser.error('--cfg-options resume: --resume sets it')
    if args.resume not in (None, 'auto') and 'load_from' in options:
        parser.error(f'--cfg-options load_from: --resume {args.resume} sets it')
    return args


def main() -> None:
    args = parse_args()
    # Among the options, as some of them are of this type alone.
    amp = {'optim_wrapper.type': 'focal_retinanet.AmpOptimWrapper'}
    cfg = load_config(args, amp if args.amp else None)

    if args.amp:
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise UserError(
                '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in '
                f'{args.config}'
            )
        cfg.auto_scale_lr.enable = True
    start_from = cfg.get('load_from')
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume

    runner = build_runner(cfg)
    # If there is no checkpoint to go on from.
    runner.start_from = start_from
    runner.train()
    end_distributed(runner)


if __name__ == '__main__':
    with clear_errors():
        main()
