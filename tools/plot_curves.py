"""Plot curves of training runs: losses, learning rate and AP, to one picture.

A RUN is a work directory, a folder with seed-* in it (one model, several
seeds; tools/sweep.py makes them), or a file of scalars that mmengine logged. Of
several seeds the line is the mean, the band goes from the lowest to the
highest. A run that diverged ends there, with a cross.

Examples:
    python tools/plot_curves.py work_dirs/A work_dirs/B
    python tools/plot_curves.py work_dirs/sweep/table1b_* --keys loss AP AP75 \\
        --x time --smooth 5 --out table1b.pdf
"""

import argparse
import sys
from pathlib import Path

from focal_retinanet.cli.console import quiet_mmengine
from focal_retinanet.cli.errors import UserError, clear_errors
from focal_retinanet.evaluation.training_log import ModelLogs, find_training_logs
from focal_retinanet.visualization.curves import draw_curves

FORMATS = ('.png', '.svg', '.pdf')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('runs', nargs='+', metavar='RUN')
    parser.add_argument(
        '--keys',
        nargs='+',
        metavar='KEY',
        help='a panel for each: keys of the log, or AP, AP50, AP75, APs, APm, APl '
        '(default: all losses, lr and AP)',
    )
    parser.add_argument(
        '--x',
        choices=['iterations', 'time'],
        default='iterations',
        help='time is that of training, without validation (default: iterations)',
    )
    parser.add_argument(
        '--smooth',
        type=int,
        default=1,
        metavar='N',
        help='losses as the mean of N logged values, which are means of '
        'log_processor.window_size iterations already (default: 1, as logged)',
    )
    parser.add_argument(
        '--legend',
        nargs='+',
        metavar='NAME',
        help="one for each RUN that is plotted (default: the folders' names)",
    )
    parser.add_argument('--title', help='of the picture (default: none)')
    parser.add_argument(
        '--out',
        default='curves.png',
        metavar='FILE',
        help='.png (200 dpi), .svg or .pdf (default: curves.png)',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='write over a file that exists'
    )
    args = parser.parse_args()
    if args.smooth < 1:
        parser.error(f'--smooth must be at least 1, got {args.smooth}')
    return args


def main() -> None:
    args = parse_args()
    out = Path(args.out)
    if out.suffix.lower() not in FORMATS:
        raise UserError(f'{out} must end in {", ".join(FORMATS)}')
    if out.exists() and not args.overwrite:
        raise UserError(f'{out} exists: name another --out, or add --overwrite')
    with quiet_mmengine():
        models, left_out = find_training_logs(args.runs)
    for line in left_out:
        _warn(f'left out {line}')
    if args.legend is not None:
        if len(args.legend) != len(models):
            raise UserError(
                f'--legend has {len(args.legend)} names for {len(models)} runs: '
                + ', '.join(model.name for model in models)
            )
        models = [
            ModelLogs(name, model.logs)
            for name, model in zip(args.legend, models, strict=True)
        ]
    for line in draw_curves(models, out, args.keys, args.x, args.smooth, args.title):
        _warn(line)
    print(f'wrote {out}: {", ".join(model.name for model in models)}')


def _warn(line: str) -> None:
    print(f'warning: {line}', file=sys.stderr)


if __name__ == '__main__':
    with clear_errors():
        main()
