"""See the loss: the paper's figures of it, and where a trained model's loss is.

curves  Figs. 1, 5 and 6: the loss, FL* and their derivatives
cdf     Fig. 4: cumulative loss of positives and negatives of a trained model
map     the loss and the modulating factor over images, per level

Examples:
    python tools/plot_loss.py curves --out-dir figures
    python tools/plot_loss.py cdf CONFIG CHECKPOINT --out work_dirs/mine/loss_cdf.png
    python tools/plot_loss.py map CONFIG CHECKPOINT --num 8 --out-dir maps
"""

import argparse
import contextlib
import math
from collections.abc import Iterable
from pathlib import Path

from mmdet.apis import init_detector
from mmengine.config import Config
from torch import nn
from torch.utils.data import Dataset
from tqdm import tqdm

from focal_retinanet.cli.arguments import (
    add_model_arguments,
    add_num,
    add_out_dir,
    add_out_file,
    add_split,
    tool_parser,
)
from focal_retinanet.cli.console import quiet_mmengine, quiet_warnings
from focal_retinanet.cli.errors import clear_errors
from focal_retinanet.cli.output_dir import check_figure_file, check_output_file
from focal_retinanet.config.ablation_table import load_with_options
from focal_retinanet.data.training_images import annotated_dataset, evenly_spread
from focal_retinanet.engine.checkpoints.load import enforce_safe_loading
from focal_retinanet.evaluation.anchor_logits import anchor_logits, focal_loss_of
from focal_retinanet.evaluation.loss_distribution import (
    describe_hardest,
    loss_distributions,
)
from focal_retinanet.visualization.file_names import unique_names
from focal_retinanet.visualization.losses.cdf import plot_loss_cdf
from focal_retinanet.visualization.losses.curves import (
    plot_derivatives,
    plot_loss_over_p_t,
    plot_variants,
)
from focal_retinanet.visualization.losses.map import plot_loss_map

#: Negatives that Fig. 4 is drawn from, as many as in the paper.
MAX_NEGATIVES = 10_000_000


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    commands = parser.add_subparsers(required=True, metavar='{curves,cdf,map}')
    curves = commands.add_parser('curves', help='Figs. 1, 5 and 6 of the paper')
    curves.set_defaults(function=draw_curves)
    cdf = commands.add_parser('cdf', help='Fig. 4 of the paper, of a trained model')
    cdf.set_defaults(function=draw_cdf)
    maps = commands.add_parser('map', help='the loss over images, per level')
    maps.set_defaults(function=draw_maps)
    for command in (cdf, maps):
        add_model_arguments(command)
        add_split(command, ['train', 'val', 'test'], 'val')
    for command in (curves, maps):
        add_out_dir(command, 'outputs/loss', 'the pictures')
    add_out_file(cdf, 'loss_cdf.png', '.png (200 dpi), .svg or .pdf')
    add_num(cdf, 'to evaluate, spread evenly over the data', default=None)
    cdf.add_argument(
        '--gammas',
        type=gamma,
        nargs='+',
        default=[0, 0.5, 1, 2],
        help='gammas of the losses (default: 0 0.5 1 2)',
    )
    add_num(maps, 'to draw, spread evenly over the data', default=4)
    return parser.parse_args()


def gamma(text: str) -> float:
    """Argument type: a finite number of at least 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f'must be a number of at least 0, got {text}')
    return number


def draw_curves(args: argparse.Namespace) -> None:
    plots = {
        'fig1_focal_loss.png': plot_loss_over_p_t,
        'fig5_variants.png': plot_variants,
        'fig6_derivatives.png': plot_derivatives,
    }
    files = files_to_write(args, plots)
    for file, plot in zip(files, plots.values(), strict=True):
        print(plot(file))


def draw_cdf(args: argparse.Namespace) -> None:
    check_figure_file(args.out, args.overwrite)
    cfg, model, dataset = load(args)
    indices = evenly_spread(len(dataset), args.num)
    images = anchor_logits(model, dataset, indices)
    distributions = loss_distributions(
        tqdm(images, total=len(indices), disable=None),
        args.gammas,
        alpha=focal_loss_of(model).alpha,
        max_negatives=MAX_NEGATIVES // len(indices),
    )
    plot_loss_cdf(distributions, args.out, title=Path(cfg.filename).stem)
    print(describe_hardest(distributions))
    print(args.out)


def draw_maps(args: argparse.Namespace) -> None:
    _, model, dataset = load(args)
    loss = focal_loss_of(model)
    indices = evenly_spread(len(dataset), args.num)
    stems = [Path(dataset.get_data_info(i)['img_path']).stem for i in indices]
    names = unique_names(f'{stem}_loss.png' for stem in stems)
    files = files_to_write(args, names)
    images = tqdm(
        anchor_logits(model, dataset, indices), total=len(files), disable=None
    )
    for file, image in zip(files, images, strict=True):
        plot_loss_map(image, file, loss.gamma, loss.alpha)
    print('\n'.join(map(str, files)))


def load(args: argparse.Namespace) -> tuple[Config, nn.Module, Dataset]:
    """Load the config, the trained model and the data that the arguments name."""
    quiet_warnings()
    enforce_safe_loading(allow_unsafe=args.unsafe_checkpoint)
    # mmengine prints the name of the checkpoint.
    with quiet_mmengine(), contextlib.redirect_stdout(None):
        cfg = load_with_options(args.config, args.cfg_options)
        model = init_detector(cfg, args.checkpoint, device=args.device)
        dataset = annotated_dataset(cfg, args.split, model)
    return cfg, model, dataset


def files_to_write(args: argparse.Namespace, names: Iterable[str]) -> list[Path]:
    """Return the files of these names in ``--out-dir``."""
    return [
        check_output_file(args.out_dir / name, args.overwrite, '--out-dir')
        for name in names
    ]


if __name__ == '__main__':
    with clear_errors():
        args = parse_args()
        args.function(args)
