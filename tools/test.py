"""Test a trained detector: COCO AP, and pictures of what it found.

Examples:
    python tools/test.py CONFIG CHECKPOINT
    python tools/test.py CONFIG CHECKPOINT --show-dir pictures
    python tools/test.py CONFIG CHECKPOINT --out results.pkl
    python tools/test.py CONFIG CHECKPOINT --tile 640
"""

import focal_retinanet.cli.cpu_threads  # noqa: F401

# isort: split
import argparse
import copy

from mmdet.evaluation import DumpDetResults

from focal_retinanet.cli.arguments import (
    add_checkpoint,
    add_overwrite,
    add_run_arguments,
    add_tile_arguments,
    check_tile_arguments,
    tool_parser,
)
from focal_retinanet.cli.errors import UserError, clear_errors
from focal_retinanet.cli.output_dir import check_output_file
from focal_retinanet.engine.config import build_runner, load_config
from focal_retinanet.engine.distributed import end_distributed
from focal_retinanet.engine.hooks.visualization import use_visualization_hook
from focal_retinanet.engine.test_time_augmentation import use_test_time_augmentation
from focal_retinanet.engine.tiled_model import use_tiles
from focal_retinanet.engine.tiles import Tiling
from focal_retinanet.export import is_exported, use_exported_model


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add_run_arguments(parser)
    add_checkpoint(parser)
    parser.add_argument(
        '--out', metavar='FILE.pkl', help='write the predictions to a pickle file'
    )
    add_overwrite(parser)
    parser.add_argument('--show', action='store_true', help='show the detections')
    parser.add_argument(
        '--show-dir',
        help='folder of the pictures, inside the folder of this test: ground truth on '
        'the left, detections on the right; pictures that exist stay',
    )
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds between shown pictures'
    )
    parser.add_argument(
        '--tta', action='store_true', help='test with the image and its mirror image'
    )
    add_tile_arguments(parser)
    args = parser.parse_args()
    check_tile_arguments(parser, args)
    if args.tile is not None and args.tta:
        parser.error('--tile and --tta do not work together: choose one')
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out {args.out}: the name must end with .pkl or .pickle')
    for key in ('load_from', 'resume'):
        if key in (args.cfg_options or {}):
            parser.error(f'--cfg-options {key}: the argument CHECKPOINT is tested')
    if args.tta and is_exported(args.checkpoint):
        parser.error('--tta needs a checkpoint: an exported file has detections only')
    return args


def main() -> None:
    args = parse_args()
    if args.out is not None:
        check_output_file(args.out, args.overwrite)
    cfg = load_config(args)
    if cfg.get('test_dataloader') is None:
        raise UserError(
            f'{cfg.filename} has no test_dataloader, test_cfg and test_evaluator, '
            'which may be those of the validation'
        )
    cfg.resume = False
    if is_exported(args.checkpoint):
        use_exported_model(cfg, args.checkpoint)
    else:
        cfg.load_from = args.checkpoint
    if args.show or args.show_dir:
        use_visualization_hook(cfg, args.show, args.show_dir, args.wait_time)
    tested = copy.deepcopy(cfg)
    if args.tta:
        use_test_time_augmentation(tested)
    if args.tile is not None:
        use_tiles(tested, Tiling(args.tile, args.overlap, args.full_image))

    runner = build_runner(tested)
    # Other tools read the work directory's config, and expect the model itself.
    runner.cfg = cfg
    runner.dump_config()
    if args.out is not None:
        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=args.out))
    runner.test()
    end_distributed(runner)


if __name__ == '__main__':
    with clear_errors():
        main()
