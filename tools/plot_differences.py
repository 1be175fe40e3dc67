"""Plot how models differ in AP over data sets, or over a property of the data.

A FILE is a comparison by tools/compare.py --json. Each of its models gets a point
and an interval, in points of AP above or below the reference.

Examples:
    python tools/plot_differences.py bccd.json cherry.json pcb.json
    python tools/plot_differences.py objects-20.json objects-4.json objects-1.json \\
        --x 20 4 1 --log --xlabel 'objects in an image' --out imbalance.png
"""

import argparse
import math
from pathlib import Path

from focal_retinanet.cli.arguments import add_out_file, tool_parser
from focal_retinanet.cli.console import quiet_mmengine
from focal_retinanet.cli.errors import clear_errors
from focal_retinanet.cli.output_dir import check_figure_file
from focal_retinanet.visualization.differences import draw_differences, read_differences


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument(
        'files', nargs='+', type=Path, metavar='FILE', help='comparisons, see above'
    )
    parser.add_argument(
        '--x',
        nargs='+',
        type=finite,
        metavar='NUMBER',
        help='place of each FILE on the horizontal axis; lines join the points '
        "(default: the files' names, without lines)",
    )
    parser.add_argument(
        '--log', action='store_true', help='logarithmic horizontal axis; needs --x'
    )
    parser.add_argument('--xlabel', help='label of the horizontal axis (default: none)')
    parser.add_argument('--title', help='title of the picture (default: none)')
    add_out_file(parser, 'differences.png', '.png (200 dpi), .svg or .pdf')
    args = parser.parse_args()
    if args.x is not None and len(args.x) != len(args.files):
        parser.error(f'--x has {len(args.x)} numbers for {len(args.files)} files')
    if args.x is not None and len(set(args.x)) != len(args.x):
        parser.error('--x has a number twice')
    if args.log and args.x is None:
        parser.error('--log needs --x')
    return args


def finite(text: str) -> float:
    """Argument type: a number that is neither NaN nor infinite."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f'must be a finite number, got {text}')
    return number


def labels_of(files: list[Path]) -> list[str]:
    """Return the names of the files, or the whole paths where names would be equal."""
    names = [file.stem for file in files]
    return [
        str(file) if names.count(name) > 1 else name
        for file, name in zip(files, names, strict=True)
    ]


def main() -> None:
    args = parse_args()
    check_figure_file(args.out, args.overwrite)
    groups = [read_differences(file) for file in args.files]
    with quiet_mmengine():
        draw_differences(
            groups,
            labels_of(args.files),
            args.out,
            args.x,
            args.xlabel,
            args.log,
            args.title,
        )
    print(f'wrote {args.out}')


if __name__ == '__main__':
    with clear_errors():
        main()
