"""Test a trained detector: COCO AP, and pictures of what it found.

Examples:
    python tools/test.py CONFIG CHECKPOINT
    python tools/test.py CONFIG CHECKPOINT --show-dir pictures
    python tools/test.py CONFIG CHECKPOINT --out results.pkl
"""

import focal_retinanet.cli.cpu_threads  # noqa: F401

# isort: split
import argparse
from copy import deepcopy

from mmdet.evaluation import DumpDetResults
from mmengine.config import Config, ConfigDict

from focal_retinanet.cli.arguments import add_config_arguments
from focal_retinanet.cli.errors import clear_errors
from focal_retinanet.config.dataset_configs import inner_datasets
from focal_retinanet.engine.config import build_runner, load_config
from focal_retinanet.engine.distributed import end_distributed
from focal_retinanet.engine.hooks.visualization import use_visualization_hook


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out', metavar='FILE.pkl', help='write the predictions to a pickle file'
    )
    parser.add_argument('--show', action='store_true', help='show the detections')
    parser.add_argument(
        '--show-dir',
        help='folder, under that of this test, for the pictures of ground truth (left) '
        'and detections (right); pictures that are there already stay',
    )
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds between shown pictures'
    )
    parser.add_argument(
        '--tta', action='store_true', help='test with the image and its mirror image'
    )
    args = parser.parse_args()
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out {args.out}: the name must end with .pkl or .pickle')
    for key in ('load_from', 'resume'):
        if key in (args.cfg_options or {}):
            parser.error(f'--cfg-options {key}: the argument CHECKPOINT is tested')
    return args


def use_test_time_augmentation(cfg: Config) -> None:
    """Average over the image and its mirror image, unless the config says how."""
    cfg.setdefault(
        'tta_model',
        dict(
            type='DetTTAModel',
            tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
        ),
    )
    if 'tta_pipeline' not in cfg:
        dataset = next(inner_datasets(cfg.test_dataloader.dataset))
        meta_keys = (
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
            'flip',
            'flip_direction',
        )
        flips = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]
        pack = dict(type='PackDetInputs', meta_keys=meta_keys)
        cfg.tta_pipeline = deepcopy(dataset.pipeline)
        cfg.tta_pipeline[-1] = dict(type='TestTimeAug', transforms=[flips, [pack]])
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    for dataset in inner_datasets(cfg.test_dataloader.dataset):
        dataset.pipeline = cfg.tta_pipeline


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.show or args.show_dir:
        use_visualization_hook(cfg, args.show, args.show_dir, args.wait_time)
    if args.tta:
        use_test_time_augmentation(cfg)

    runner = build_runner(cfg)
    if args.out is not None:
        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=args.out))
    runner.test()
    end_distributed(runner)


if __name__ == '__main__':
    with clear_errors():
        main()
