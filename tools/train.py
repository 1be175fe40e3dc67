"""Train a detector.

Examples:
    python tools/train.py configs/bccd/retinanet_r18_fpn_24e_bccd-320px.py
    python tools/train.py CONFIG --work-dir work_dirs/mine --resume
    python tools/train.py CONFIG --epochs 12 --early-stop 3 --ema
    python tools/train.py CONFIG --weights work_dirs/other/epoch_12.pth
    python tools/train.py CONFIG --cfg-options randomness.seed=1
"""

import argparse

import focal_retinanet.cli.cpu_threads  # noqa: F401

# isort: split
from focal_retinanet.cli.arguments import add_run_arguments, at_least, tool_parser
from focal_retinanet.cli.errors import UserError, clear_errors
from focal_retinanet.config.schedule import set_epochs, set_iters
from focal_retinanet.engine.config import build_runner, load_config
from focal_retinanet.engine.distributed import end_distributed
from focal_retinanet.engine.training_flags import average_weights, scale_lr, stop_early
from focal_retinanet.engine.work_dir import make_room


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
    parser.add_argument(
        '--weights',
        metavar='FILE',
        help='start from the weights of a checkpoint, those that fit: the log says '
        'which do not',
    )
    length = parser.add_mutually_exclusive_group()
    for unit, what in (('epochs', 'epochs'), ('iters', 'iterations')):
        length.add_argument(
            f'--{unit}',
            type=at_least(1),
            metavar='N',
            help=f'train for N {what}; steps of the learning rate keep their share of '
            'the training (with --resume: the N that it began with)',
        )
    parser.add_argument(
        '--early-stop',
        type=at_least(1),
        metavar='N',
        help='stop after N validations without a better AP',
    )
    parser.add_argument(
        '--ema',
        action='store_true',
        help='validate and save an exponential moving average of the weights',
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='delete the checkpoints of an earlier run in the work directory',
    )
    args = parser.parse_args()
    check_options(parser, args)
    return args


def check_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with an error if a flag and an option set the same."""
    options = args.cfg_options or {}
    if args.resume is not None and 'resume' in options:
        parser.error('--cfg-options resume: --resume sets it')
    if args.resume not in (None, 'auto') and 'load_from' in options:
        parser.error(f'--cfg-options load_from: --resume {args.resume} sets it')
    if args.resume not in (None, 'auto') and args.weights is not None:
        parser.error(f'--weights: --resume {args.resume} has weights of its own')
    if args.amp and 'optim_wrapper.type' in options:
        parser.error('--cfg-options optim_wrapper.type: --amp sets it')
    for flag, value, key in (
        ('--weights', args.weights, 'load_from'),
        ('--epochs', args.epochs, 'train_cfg.max_epochs'),
        ('--iters', args.iters, 'train_cfg.max_iters'),
    ):
        if value is not None and key in options:
            parser.error(f'--cfg-options {key}: {flag} {value} sets it')


def main() -> None:
    args = parse_args()
    # Among the options, as some of them are of this type alone.
    amp = {'optim_wrapper.type': 'focal_retinanet.AmpOptimWrapper'}
    cfg = load_config(args, amp if args.amp else None)

    if args.amp:
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        scale_lr(cfg)
    if args.epochs is not None:
        set_epochs(cfg, args.epochs)
    if args.iters is not None:
        set_iters(cfg, args.iters)
    if args.early_stop is not None:
        stop_early(cfg, args.early_stop)
    if args.ema:
        average_weights(cfg)
    if args.weights is not None:
        cfg.load_from = args.weights
    start_from = cfg.get('load_from')
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume

    if cfg.get('resume') and args.overwrite:
        raise UserError('--overwrite deletes the checkpoints from which a run resumes')
    if not cfg.get('resume'):
        make_room(cfg.work_dir, args.overwrite, start_from)
    runner = build_runner(cfg)
    # If there is no checkpoint to go on from.
    runner.start_from = start_from
    runner.train()
    end_distributed(runner)


if __name__ == '__main__':
    with clear_errors():
        main()
