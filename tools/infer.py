"""Detect objects in images and videos: pictures of them, and a COCO JSON file.

Examples:
    python tools/infer.py CONFIG CHECKPOINT photo.jpg
    python tools/infer.py CONFIG CHECKPOINT folder 'more/*.png' clip.mp4 --out-dir found
    python tools/infer.py CONFIG CHECKPOINT orthophoto.tif --tile 640 --batch-size 8
"""

import focal_retinanet.cli.cpu_threads  # noqa: F401

# isort: split
import argparse

from focal_retinanet.cli.arguments import (
    add_model_arguments,
    add_out_dir,
    add_score_thr,
    add_tile_arguments,
    at_least,
    check_tile_arguments,
    tool_parser,
)
from focal_retinanet.cli.console import quiet_warnings, warn
from focal_retinanet.cli.errors import clear_errors
from focal_retinanet.cli.output_dir import check_output_dir, make_output_dir
from focal_retinanet.data.image_files import find_inputs
from focal_retinanet.engine.detect_files import detect_files
from focal_retinanet.engine.inference import Detector


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add_model_arguments(parser)
    parser.add_argument(
        'inputs', nargs='+', help='images, folders, globs in quotes, videos'
    )
    add_out_dir(parser, 'outputs', 'the pictures (vis/) and of detections.json')
    add_score_thr(parser, 'lowest score that is drawn; the JSON has all detections')
    parser.add_argument(
        '--batch-size',
        type=at_least(1),
        default=1,
        metavar='N',
        help='number of images, or of tiles, that are detected at a time (default: '
        '%(default)s)',
    )
    add_tile_arguments(parser)
    args = parser.parse_args()
    check_tile_arguments(parser, args)
    return args


def main() -> None:
    args = parse_args()
    files = find_inputs(args.inputs, args.out_dir)
    check_output_dir(args.out_dir, args.overwrite)
    quiet_warnings()
    detector = Detector(
        args.config,
        args.checkpoint,
        args.device,
        cfg_options=args.cfg_options,
        unsafe_checkpoint=args.unsafe_checkpoint,
        tile=args.tile,
        overlap=args.overlap,
        full_image=args.full_image,
        warn=warn,
    )
    out_dir = make_output_dir(args.out_dir, args.overwrite)
    detect_files(detector, files, out_dir, args.score_thr, args.batch_size)


if __name__ == '__main__':
    with clear_errors():
        main()
