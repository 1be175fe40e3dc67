"""Arguments of the tools: each one that several tools have is written here once."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from mmengine.config import DictAction


def tool_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser whose ``--help`` shows a tool's docstring as it is written."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def at_least(minimum: int) -> Callable[[str], int]:
    """Return an argument type: whole numbers from a minimum on."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or number < minimum:
            raise argparse.ArgumentTypeError(
                f'must be a whole number of at least {minimum}, got {text}'
            )
        return number

    return parse


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that training and testing share, named as mmdet's are."""
    add_config(parser)
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
    add_unsafe_checkpoint(parser)
    # torch.distributed.launch passes it.
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a trained model that a tool runs outside a runner."""
    add_config(parser)
    add_checkpoint(parser)
    parser.add_argument(
        '--device',
        type=device,
        default=default_device(),
        help='device of the model (default: the first GPU, or the CPU without one)',
    )
    add_cfg_options(parser)
    add_unsafe_checkpoint(parser)


def device(text: str) -> str:
    """Check an argument that names a device of this machine, such as cuda:1."""
    try:
        wanted = torch.device(text)
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f'{text} is no device: {error}') from error
    if wanted.type == 'cuda' and (wanted.index or 0) >= torch.cuda.device_count():
        raise argparse.ArgumentTypeError(
            f'PyTorch finds {torch.cuda.device_count()} GPUs here, so there is no '
            f'{text}; --device cpu works everywhere'
        )
    return text


def default_device() -> str:
    """Return the first GPU, or the CPU without one."""
    return 'cuda:0' if torch.cuda.is_available() else 'cpu'


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the config, a file or a row of a table."""
    parser.add_argument(
        'config', help='config file, or TABLE.py:ROW for a row of configs/ablations'
    )


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add the checkpoint file."""
    parser.add_argument(
        'checkpoint', help='checkpoint file, or model.onnx, .xml, .pt2 of export.py'
    )


def add_unsafe_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add the flag that turns safe loading of checkpoints off."""
    parser.add_argument(
        '--unsafe-checkpoint',
        action='store_true',
        help='load any checkpoint file and run the code that it may hold; only for '
        'files that you trust',
    )


class OptionsAction(DictAction):
    """mmengine's, with an error of the parser for a word that is not KEY=VALUE."""

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
        parser: Parser that gets the argument.
        name: Name of the argument.
        purpose: Help of the argument.
    """
    parser.add_argument(
        name, nargs='+', action=OptionsAction, metavar='KEY=VALUE', help=purpose
    )


def add_split(
    parser: argparse.ArgumentParser, choices: Sequence[str], default: str
) -> None:
    """Add the choice of a data loader of the config.

    Args:
        parser: Parser that gets the argument.
        choices: Names of the splits.
        default: Default split.
    """
    parser.add_argument(
        '--split',
        choices=choices,
        default=default,
        help='data loader of the config whose data set and pipeline are used '
        '(default: %(default)s)',
    )


def add_score_thr(
    parser: argparse.ArgumentParser, purpose: str, name: str = '--score-thr'
) -> None:
    """Add the score from which on detections are drawn."""
    parser.add_argument(
        name, type=float, default=0.3, help=f'{purpose} (default: %(default)s)'
    )


def add_out_dir(
    parser: argparse.ArgumentParser,
    default: str,
    content: str,
    other_names: Sequence[str] = (),
) -> None:
    """Add ``--out-dir``, a ``Path``, and ``--overwrite``.

    Args:
        parser: Parser that gets the arguments.
        default: Default folder.
        content: What the tool writes into the folder.
        other_names: Other spellings of ``--out-dir``.
    """
    parser.add_argument(
        '--out-dir',
        *other_names,
        type=Path,
        default=default,
        help=f'folder of {content} (default: %(default)s)',
    )
    add_overwrite(parser)


def add_out_file(
    parser: argparse.ArgumentParser,
    default: str | None,
    kinds: str = '',
    content: str = 'the picture',
    shown: str = '%(default)s',
) -> None:
    """Add ``--out``, a ``Path``, and ``--overwrite``.

    Args:
        parser: Parser that gets the arguments.
        default: Default file; None if it depends on other arguments.
        kinds: Kinds of files that the tool can write.
        content: What the tool writes into the file.
        shown: Default file as the help shows it.
    """
    parser.add_argument(
        '--out',
        type=Path,
        default=default,
        metavar='FILE',
        help=f'file of {content}{kinds and ": "}{kinds} (default: {shown})',
    )
    add_overwrite(parser)


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add ``--overwrite``."""
    parser.add_argument(
        '--overwrite', action='store_true', help='write over results that exist'
    )


def add_seed(parser: argparse.ArgumentParser, purpose: str, default: int = 0) -> None:
    """Add the seed of what a tool draws at random."""
    parser.add_argument(
        '--seed',
        type=int,
        default=default,
        help=f'seed of {purpose} (default: %(default)s)',
    )


def add_tile_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how large images are cut; :func:`check_tile_arguments` checks the result."""
    parser.add_argument(
        '--tile',
        type=at_least(32),
        metavar='PIXELS',
        help='cut larger images into tiles of this side, which go through the test '
        'pipeline one by one (default: no image is cut)',
    )
    parser.add_argument(
        '--overlap',
        type=_share,
        default=0.2,
        metavar='SHARE',
        help='share of a side that neighbouring tiles have in common at least; objects '
        'up to this size are found completely (default: %(default)s)',
    )
    parser.add_argument(
        '--full-image',
        action='store_true',
        help='detect in a cut image as a whole too, for objects larger than the '
        'overlap',
    )


def check_tile_arguments(
    parser: argparse.ArgumentParser, args: argparse.Namespace
) -> None:
    """End with an error of the parser if ``--full-image`` has no ``--tile``."""
    if args.full_image and args.tile is None:
        parser.error('--full-image is for images that are cut: add --tile PIXELS')


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(
            f'must be a number from 0 to below 1, got {text}'
        )
    return share


def add_num(
    parser: argparse.ArgumentParser,
    purpose: str,
    default: int | None,
    minimum: int = 1,
) -> None:
    """Add the number of images that a tool takes from a data set.

    Args:
        parser: Parser that gets the argument.
        purpose: What the tool does with the images, and which ones it takes.
        default: Default number; None takes all images.
        minimum: Smallest number that is allowed.
    """
    shown = 'all' if default is None else default
    parser.add_argument(
        '--num',
        type=at_least(minimum),
        default=default,
        help=f'number of images {purpose} (default: {shown})',
    )


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Add the trained models that a tool compares or plots."""
    parser.add_argument(
        'runs', nargs='+', metavar='RUN', help='trained models, see above'
    )


def add_ann_file(parser: argparse.ArgumentParser) -> None:
    """Add the ground truth of detections."""
    parser.add_argument(
        '--ann-file',
        help='ground truth, a COCO JSON file (default: the file that the configs of '
        'the runs name)',
    )


def add_img_dir(parser: argparse.ArgumentParser) -> None:
    """Add the folder of the images of the ground truth."""
    parser.add_argument(
        '--img-dir',
        type=Path,
        help='folder of the images (default: the folder that the configs of the runs '
        'name)',
    )


def add_comparison_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the runs, their ground truth, and how their differences are measured."""
    add_runs(parser)
    add_ann_file(parser)
    parser.add_argument(
        '--reference',
        metavar='NAME',
        help='model that the others are compared with (default: the first)',
    )
    parser.add_argument(
        '--resamples',
        type=at_least(0),
        default=1000,
        help='number of resamples of the images for the intervals; 0 leaves the '
        'intervals out (default: %(default)s)',
    )
    parser.add_argument(
        '--holm',
        action='store_true',
        help='correct all differences together for their number; needs some 1000 '
        'resamples for each',
    )
    add_seed(parser, 'the resampling')
