"""Arguments of ``benchmarks/run.py``; imports nothing that is measured."""

import argparse
from pathlib import Path

from focal_retinanet.cli.arguments import add_cfg_options

#: Peers that each sub-command knows.
PEERS = {
    'loss': ['mmdet', 'torchvision', 'mmcv'],
    'assign': ['mmdet', 'torchvision'],
    'head': ['mmdet'],
    'predict': ['mmdet'],
    'step': ['mmdet', 'torchvision'],
    'infer': ['mmdet'],
    'eval': ['mmdet'],
}


def make_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='case', required=True, metavar='CASE')
    for name, add, text in (
        ('loss', _add_loss, 'focal loss, forward and backward'),
        ('assign', _add_assign, 'max-IoU assignment of one image'),
        ('head', _add_head, "the head's loss of level maps, forward and backward"),
        ('predict', _add_predict, "the head's detections from level maps"),
        ('step', _add_step, 'a training step of a whole detector'),
        ('infer', _add_infer, 'detection by a whole detector'),
        ('eval', _add_eval, 'COCO evaluation of detections in a file'),
    ):
        command = commands.add_parser(
            name,
            help=text,
            description=f'Benchmark: {text}.',
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        add(command)
        _add_shared(command, PEERS[name])
    return parser


def _add_shared(parser: argparse.ArgumentParser, peers: list[str]) -> None:
    parser.add_argument(
        '--peers',
        type=_names(peers),
        default=peers,
        metavar=','.join(peers),
        help='compare with these; each where it is installed, "none" for ours alone',
    )
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument(
        '--runs', type=positive, default=7, help='of each, that are timed in turn'
    )
    parser.add_argument(
        '--warmup', type=not_negative, default=2, help='calls of each before that'
    )
    parser.add_argument(
        '--min-run-ms',
        type=float,
        default=20.0,
        help='a run has as many calls as take this long',
    )
    parser.add_argument('--seed', type=not_negative, default=0, help='of the inputs')
    parser.add_argument(
        '--threads', type=positive, help="of torch on the CPU (default: torch's)"
    )
    parser.add_argument(
        '--no-compiler',
        action='store_true',
        help='ours as it is where there is no C++ compiler',
    )
    parser.add_argument(
        '--json', type=Path, metavar='OUT', help='write everything to this file'
    )
    parser.add_argument(
        '--force', action='store_true', help='overwrite the file of --json'
    )


def _add_loss(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--anchors',
        type=positive,
        default=201600,
        help='rows of logits; 201600 are those of an image of 800x1344',
    )
    parser.add_argument('--classes', type=positive, default=80)
    _add_dtype(parser)
    parser.add_argument('--gamma', type=float, default=2.0, help='focusing parameter')
    parser.add_argument('--alpha', type=float, default=0.25, help='weight of y = 1')
    parser.add_argument(
        '--positives', type=share, default=0.001, help='share of the anchors'
    )


def _add_assign(parser: argparse.ArgumentParser) -> None:
    _add_size(parser)
    parser.add_argument(
        '--objects',
        type=numbers(not_negative),
        default=[300],
        metavar='M,M,...',
        help='in the image; a case for each number',
    )
    parser.add_argument(
        '--max-memory',
        type=float,
        default=16.0,
        metavar='GB',
        help='leave out peers that need more, at 36 bytes for each pair of anchor '
        'and object',
    )


def _add_head(parser: argparse.ArgumentParser) -> None:
    _add_size(parser)
    _add_batch(parser)
    parser.add_argument('--classes', type=positive, default=80)
    _add_dtype(parser)
    _add_memory_format(parser)


def _add_predict(parser: argparse.ArgumentParser) -> None:
    _add_size(parser)
    parser.add_argument('--batch', type=positive, default=1, help='images')
    parser.add_argument('--classes', type=positive, default=80)
    _add_memory_format(parser)
    parser.add_argument(
        '--density',
        choices=['many', 'few'],
        default='few',
        help='scores above 0.05: nearly all of them, or one of 10,000',
    )


def _add_step(parser: argparse.ArgumentParser) -> None:
    _add_detector(parser, weights=True)
    _add_size(parser)
    _add_batch(parser)
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision, bf16 (needs a GPU)'
    )


def _add_infer(parser: argparse.ArgumentParser) -> None:
    _add_detector(parser, weights=True)
    parser.add_argument('--checkpoint', help='weights (default: random ones)')
    parser.add_argument(
        '--unsafe-checkpoint',
        action='store_true',
        help='load any checkpoint file, running whatever code it holds',
    )
    parser.add_argument(
        '--images', type=positive, default=16, help='the first of the data set'
    )
    parser.add_argument(
        '--with-data',
        action='store_true',
        help="the whole loop, with the config's data loading",
    )
    parser.add_argument(
        '--synthetic', action='store_true', help='images of noise, no data set'
    )
    _add_size(parser)
    parser.add_argument(
        '--batch', type=positive, default=1, help='synthetic images at a time'
    )


def _add_eval(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--ann-file', required=True, help='annotations, COCO JSON')
    parser.add_argument(
        '--results', required=True, help='detections, a JSON list as COCO has it'
    )
    parser.add_argument(
        '--backend',
        choices=['auto', 'faster_coco_eval', 'pycocotools'],
        default='auto',
        help='of ours',
    )
    parser.add_argument('--classwise', action='store_true', help='AP of each class too')


def _add_detector(parser: argparse.ArgumentParser, weights: bool) -> None:
    parser.add_argument('--config', required=True, help='config file')
    add_cfg_options(parser, purpose='override settings of our model only')
    add_cfg_options(
        parser, '--shared-options', 'override settings of the config for all'
    )
    parser.add_argument(
        '--random-weights',
        action=argparse.BooleanOptionalAction,
        default=weights,
        help='do not load the pretrained weights that the config names',
    )


def _add_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--height', type=positive, default=800, help='of an image, pixels'
    )
    parser.add_argument(
        '--width', type=positive, default=1344, help='of an image, pixels'
    )


def _add_batch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--batch', type=positive, default=2, help='images')
    parser.add_argument(
        '--objects',
        # mmdet counts an image without objects as one with a positive.
        type=numbers(positive),
        default=[8, 60],
        metavar='M,M,...',
        help='in the images, in turn',
    )


def _add_dtype(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--dtype', choices=['fp32', 'bf16', 'fp16'], default='fp32')


def _add_memory_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--memory-format',
        choices=['contiguous', 'channels_last'],
        default='contiguous',
        help='of the level maps',
    )


def positive(text: str) -> int:
    value = not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError('must be at least 1')
    return value


def not_negative(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r} is not a number of 0 or more')
    return int(text)


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a share between 0 and 1')
    return value


def numbers(of):
    """Type of a list of numbers with commas between."""
    return lambda text: [of(part) for part in text.split(',')]


def _names(known: list[str]):
    def parse(text: str) -> list[str]:
        if text == 'none':
            return []
        names = text.split(',')
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(
                    f'unknown peer {name!r}; known are {", ".join(known)}'
                )
        return list(dict.fromkeys(names))

    return parse
