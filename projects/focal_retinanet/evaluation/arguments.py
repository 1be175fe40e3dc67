"""Arguments of the tools that compare runs."""

import argparse


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
