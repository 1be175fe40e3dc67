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
import io
from pathlib import Path

import numpy as np
import torch
from mmdet.apis import init_detector
from mmengine.config import Config
from torch import nn
from torch.utils.data import Dataset
from tqdm import tqdm

from focal_retinanet.cli.arguments import add_cfg_options
from focal_retinanet.cli.console import quiet_mmengine, quiet_warnings
from focal_retinanet.cli.errors import UserError, clear_errors
from focal_retinanet.config.ablation_table import load_with_options
from focal_retinanet.engine.checkpoints.load import enforce_safe_loading
from focal_retinanet.evaluation.anchor_logits import anchor_logits, annotated_dataset
from focal_retinanet.evaluation.loss_distribution import (
    LossDistribution,
    loss_distributions,
    share_of_hardest,
)
from focal_retinanet.models import FocalLoss
from focal_retinanet.visualization.file_names import unique_names
from focal_retinanet.visualization.loss_cdf import plot_loss_cdf
from focal_retinanet.visualization.loss_curves import (
    plot_derivatives,
    plot_loss_over_p_t,
    plot_variants,
)
from focal_retinanet.visualization.loss_map import plot_loss_map


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar='{curves,cdf,map}')

    curves = commands.add_parser('curves', help='Figs. 1, 5 and 6 of the paper')
    curves.set_defaults(function=draw_curves)
    _add_out_dir(curves)

    cdf = commands.add_parser('cdf', help='Fig. 4 of the paper, of a trained model')
    cdf.set_defaults(function=draw_cdf)
    _add_model(cdf)
    cdf.add_argument(
        '--out', type=Path, default='loss_cdf.png', help='default: %(default)s'
    )
    cdf.add_argument('--num', type=int, help='images (default: all)')
    cdf.add_argument(
        '--gammas', type=float, nargs='+', default=[0, 0.5, 1, 2], help='of the losses'
    )

    maps = commands.add_parser('map', help='the loss over images, per level')
    maps.set_defaults(function=draw_maps)
    _add_model(maps)
    _add_out_dir(maps)
    maps.add_argument(
        '--num', type=int, default=4, help='images, evenly over the data (default: 4)'
    )
    for command in (curves, cdf, maps):
        command.add_argument(
            '--overwrite', action='store_true', help='replace pictures that are there'
        )
    return parser.parse_args()


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', help='config file, or TABLE.py:ROW')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--split', choices=['train', 'val', 'test'], default='val')
    parser.add_argument(
        '--device',
        default='cuda:0' if torch.cuda.is_available() else 'cpu',
        help='default: the first GPU, or the CPU if there is none',
    )
    add_cfg_options(parser)
    parser.add_argument(
        '--unsafe-checkpoint',
        action='store_true',
        help='load any checkpoint file, running whatever code it holds; only for '
        'files that you trust',
    )


def _add_out_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--out-dir', type=Path, default='outputs/loss', help='default: %(default)s'
    )


def draw_curves(args: argparse.Namespace) -> None:
    figures = {
        'fig1_focal_loss.png': plot_loss_over_p_t,
        'fig5_variants.png': plot_variants,
        'fig6_derivatives.png': plot_derivatives,
    }
    files = [_may_write(args.out_dir / name, args.overwrite) for name in figures]
    for file, plot in zip(files, figures.values(), strict=True):
        print(plot(file))


def draw_cdf(args: argparse.Namespace) -> None:
    file = _may_write(args.out, args.overwrite)
    cfg, model, dataset = load(args)
    indices = _spread(len(dataset), args.num)
    images = tqdm(
        anchor_logits(model, dataset, indices), total=len(indices), disable=None
    )
    # Ten million negatives at most, as many as the paper draws.
    distributions = loss_distributions(
        images,
        args.gammas,
        alpha=_focal_loss(model).alpha,
        max_negatives=10_000_000 // len(indices),
    )
    plot_loss_cdf(distributions, file, title=Path(cfg.filename).stem)
    print(_hardest(distributions))
    print(file)


def draw_maps(args: argparse.Namespace) -> None:
    _, model, dataset = load(args)
    loss = _focal_loss(model)
    indices = _spread(len(dataset), args.num)
    stems = [Path(dataset.get_data_info(i)['img_path']).stem for i in indices]
    names = unique_names(f'{stem}_loss.png' for stem in stems)
    files = [_may_write(args.out_dir / name, args.overwrite) for name in names]
    images = anchor_logits(model, dataset, indices)
    for file, image in zip(
        files, tqdm(images, total=len(files), disable=None), strict=True
    ):
        plot_loss_map(image, file, loss.gamma, loss.alpha)
    print('\n'.join(map(str, files)))


def load(args: argparse.Namespace) -> tuple[Config, nn.Module, Dataset]:
    """The config, the trained model and the data that the arguments name."""
    quiet_warnings()
    enforce_safe_loading(allow_unsafe=args.unsafe_checkpoint)
    # What mmengine and pycocotools print of files that they open.
    with quiet_mmengine(), contextlib.redirect_stdout(io.StringIO()):
        cfg = load_with_options(args.config, args.cfg_options)
        model = init_detector(cfg, args.checkpoint, device=args.device)
        dataset = annotated_dataset(cfg, args.split)
    if args.num is not None and args.num < 1:
        raise UserError(f'--num must be at least 1, got {args.num}')
    return cfg, model, dataset


def _focal_loss(model: nn.Module) -> FocalLoss:
    loss = getattr(getattr(model, 'bbox_head', None), 'loss_cls', None)
    if not isinstance(loss, FocalLoss):
        raise UserError(
            'the modulating factor is that of focal_retinanet.FocalLoss; this model '
            f'has {type(loss).__name__}'
        )
    return loss


def _spread(count: int, num: int | None) -> list[int]:
    """At most ``num`` indices, evenly over ``count``."""
    num = count if num is None else min(num, count)
    return np.linspace(0, count - 1, num).round().astype(int).tolist()


def _hardest(distributions: list[LossDistribution]) -> str:
    """The paper's reading of the figure, in words."""
    return '\n'.join(
        f'gamma {d.gamma:g}: the hardest 20 % of the positives have '
        f'{100 * share_of_hardest(d.positives, 0.2):.0f} % of their loss, the hardest '
        f'1 % of the negatives {100 * share_of_hardest(d.negatives, 0.01):.0f} % of '
        'theirs'
        for d in distributions
    )


def _may_write(file: Path, overwrite: bool) -> Path:
    """The file, with its folder.

    Raises:
        UserError: it is there already.
    """
    if file.exists() and not overwrite:
        raise UserError(f'{file} is there already: choose another, or add --overwrite')
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


if __name__ == '__main__':
    with clear_errors():
        args = parse_args()
        args.function(args)
