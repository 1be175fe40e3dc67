"""Arguments of the tools."""

import argparse

from mmengine.config import DictAction


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that training and testing share, named as mmdet's are."""
    parser.add_argument(
        'config', help='config file, or TABLE.py:ROW for a row of configs/ablations'
    )
    parser.add_argument(
        '--work-dir',
        help='folder of logs, checkpoints and results (default: '
        'work_dirs/NAME-OF-THE-CONFIG)',
    )
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher (default: none, one process)',
    )
    parser.add_argument(
        '--unsafe-checkpoint',
        action='store_true',
        help='load any checkpoint file, running whatever code it holds; only for '
        'files that you trust',
    )
    # torch.distributed.launch passes it.
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS
    )


class OptionsAction(DictAction):
    """mmengine's, with an error of the parser for what is not KEY=VALUE."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        for option in values:
            key, equals, value = option.partition('=')
            if not equals or '' in key.strip().split('.'):
                parser.error(
                    f'{option_string} {option}: an option is KEY=VALUE, such as '
                    'randomness.seed=1, without blanks around ='
                )
            if any(value.count(a) != value.count(b) for a, b in ('()', '[]')):
                parser.error(f'{option_string} {option}: a bracket has no partner')
            try:
                super().__call__(parser, namespace, [option], option_string)
            except (AssertionError, ValueError) as error:
                parser.error(f'{option_string} {option}: {error}')


def add_cfg_options(
    parser: argparse.ArgumentParser,
    name: str = '--cfg-options',
    purpose: str = 'override settings of the config, e.g. '
    'optim_wrapper.optimizer.lr=0.02 or key="[a,b]"; no blanks inside a value',
) -> None:
    """Add the argument that overrides settings of a config.

    Args:
        parser: the parser that gets it.
        name: name of the argument.
        purpose: help of the argument.
    """
    parser.add_argument(
        name, nargs='+', action=OptionsAction, metavar='KEY=VALUE', help=purpose
    )


def add_comparison_arguments(parser: argparse.ArgumentParser) -> None:
    """The runs, their ground truth, and how their differences are measured."""
    parser.add_argument('runs', nargs='+', metavar='RUN')
    parser.add_argument(
        '--ann-file',
        help="ground truth, COCO JSON (default: that of the runs' configs)",
    )
    parser.add_argument(
        '--reference',
        metavar='NAME',
        help='model that the others are compared to (default: the first)',
    )
    parser.add_argument(
        '--resamples',
        type=_count,
        default=1000,
        help='of the images, for the intervals; 0 for none (default: 1000)',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='of the resampling (default: 0)'
    )


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f'must be at least 0, got {text}')
    return int(text)
