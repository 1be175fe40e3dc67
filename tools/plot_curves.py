"""Plot curves of training runs: losses, learning rate and AP, to one picture.

A RUN is a work directory, a folder with seed-* in it (one model, several
seeds; tools/sweep.py makes them), or a file of scalars that mmengine logged. With
several seeds, the line is the mean, and the band goes from the lowest to the
highest. The line of a run that diverged ends there, with a cross.

Examples:
    python tools/plot_curves.py work_dirs/A work_dirs/B
    python tools/plot_curves.py work_dirs/sweep/table1b_* --keys loss AP AP75 \\
        --x time --smooth 5 --out table1b.pdf
    python tools/plot_curves.py work_dirs/lr-*/rivals_ce* --survival
"""

import argparse

from focal_retinanet.cli.arguments import add_out_file, add_runs, at_least, tool_parser
from focal_retinanet.cli.console import quiet_mmengine, warn
from focal_retinanet.cli.errors import UserError, clear_errors
from focal_retinanet.cli.output_dir import check_figure_file
from focal_retinanet.evaluation.training_log import ModelLogs, find_training_logs
from focal_retinanet.visualization.curves import draw_curves
from focal_retinanet.visualization.survival import draw_survival


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add_runs(parser)
    parser.add_argument(
        '--keys',
        nargs='+',
        metavar='KEY',
        help='keys of the log, or AP, AP50, AP75, APs, APm, APl; each gets a panel '
        '(default: all losses, lr and AP)',
    )
    parser.add_argument(
        '--x',
        choices=['iterations', 'time'],
        default='iterations',
        help='horizontal axis; time is the time of training without validation '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--smooth',
        type=at_least(1),
        default=1,
        metavar='N',
        help='number of logged losses that are averaged; each is a mean over '
        'log_processor.window_size iterations already (default: 1, as logged)',
    )
    parser.add_argument(
        '--legend',
        nargs='+',
        metavar='NAME',
        help="names, one for each RUN that is plotted (default: the folders' names)",
    )
    parser.add_argument(
        '--survival',
        action='store_true',
        help='draw a mark for each run at the iteration at which it diverged or ended, '
        'over the learning rate of its config; runs of one name are one model',
    )
    parser.add_argument('--title', help='title of the picture (default: none)')
    add_out_file(parser, 'curves.png', '.png (200 dpi), .svg or .pdf')
    args = parser.parse_args()
    curves_only = ('keys', 'x', 'smooth', 'legend')
    given = [k for k in curves_only if getattr(args, k) != parser.get_default(k)]
    if args.survival and given:
        parser.error(f'--survival has no curves for --{given[0]}')
    return args


def main() -> None:
    args = parse_args()
    check_figure_file(args.out, args.overwrite)
    with quiet_mmengine():
        models, left_out = find_training_logs(args.runs)
    for line in left_out:
        warn(f'left out {line}')
    if args.legend is not None:
        models = rename(models, args.legend)
    if args.survival:
        notes = draw_survival(models, args.out, args.title)
    else:
        notes = draw_curves(
            models, args.out, args.keys, args.x, args.smooth, args.title
        )
    for line in notes:
        warn(line)
    names = '' if args.survival else ': ' + ', '.join(model.name for model in models)
    print(f'wrote {args.out}{names}')


def rename(models: list[ModelLogs], names: list[str]) -> list[ModelLogs]:
    """Return the models with the names of ``--legend``."""
    if len(names) != len(models):
        raise UserError(
            f'--legend has {len(names)} names for {len(models)} runs: '
            + ', '.join(model.name for model in models)
        )
    return [
        ModelLogs(name, model.logs) for name, model in zip(names, models, strict=True)
    ]


if __name__ == '__main__':
    with clear_errors():
        main()
