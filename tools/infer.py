"""Detect objects in images and videos: pictures of them, and a COCO JSON file.

Examples:
    python tools/infer.py CONFIG CHECKPOINT photo.jpg
    python tools/infer.py CONFIG CHECKPOINT folder 'more/*.png' clip.mp4 --out-dir found
"""

import focal_retinanet.cli.cpu_threads  # noqa: F401

# isort: split
import argparse

from focal_retinanet.cli.arguments import (
    add_model_arguments,
    add_out_dir,
    add_score_thr,
    tool_parser,
)
from focal_retinanet.cli.console import quiet_warnings, warn
from focal_retinanet.cli.errors import clear_errors
from focal_retinanet.cli.output_dir import check_output_dir, make_output_dir
from focal_retinanet.config.ablation_table import load_with_options
from focal_retinanet.data.image_files import find_inputs
from focal_retinanet.engine.checkpoints.load import enforce_safe_loading
from focal_retinanet.engine.detect_files import build_visualizer, detect_files
from focal_retinanet.engine.inference import Detector


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add_model_arguments(parser)
    parser.add_argument(
        'inputs', nargs='+', help='images, folders, globs in quotes, videos'
    )
    add_out_dir(parser, 'outputs', 'the pictures (vis/) and of detections.json')
    add_score_thr(parser, 'lowest score that is drawn; the JSON has all detections')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    files = find_inputs(args.inputs)
    check_output_dir(args.out_dir, args.overwrite)
    quiet_warnings()
    enforce_safe_loading(allow_unsafe=args.unsafe_checkpoint)
    cfg = load_with_options(args.config, args.cfg_options)
    detector = Detector(cfg, args.checkpoint, args.device)
    if detector.warning is not None:
        warn(detector.warning)
    visualizer = build_visualizer(cfg, detector)
    out_dir = make_output_dir(args.out_dir, args.overwrite)
    detect_files(detector, visualizer, files, out_dir, args.score_thr)


if __name__ == '__main__':
    with clear_errors():
        main()
