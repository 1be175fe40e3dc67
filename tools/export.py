"""Export a trained detector to ONNX, OpenVINO or torch.export, and check the file.

The file holds the whole detector: it takes images (uint8, BGR, resized) and returns
boxes, scores and labels. It is kept only if it detects in images of the test set what
PyTorch detects. docs/deploy.md says how to run it without PyTorch.

Examples:
    python tools/export.py CONFIG CHECKPOINT
    python tools/export.py CONFIG CHECKPOINT --format openvino --int8
    python tools/export.py CONFIG CHECKPOINT --shape 1 480 640 --out model.onnx
"""

import argparse
from pathlib import Path

from focal_retinanet.cli.arguments import (
    add_cfg_options,
    add_config,
    add_num,
    add_out_file,
    add_unsafe_checkpoint,
    at_least,
    tool_parser,
)
from focal_retinanet.cli.console import quiet_warnings, warn
from focal_retinanet.cli.errors import UserError, clear_errors
from focal_retinanet.cli.output_dir import check_output_file, check_outputs
from focal_retinanet.engine.export import (
    SUFFIXES,
    export_detector,
    load_plain_config,
    written_files,
)
from focal_retinanet.engine.export_check import (
    load_calibration_images,
    load_test_images,
)
from focal_retinanet.engine.inference import Detector


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add_config(parser)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--format',
        choices=SUFFIXES,
        help='kind of file (default: that of --out, or else onnx)',
    )
    add_out_file(parser, None, content='the model', shown='beside the checkpoint')
    parser.add_argument(
        '--shape',
        nargs=3,
        type=at_least(1),
        metavar=('B', 'H', 'W'),
        default=(None, None, None),
        help='fixed shape of the input: images, height, width (default: any)',
    )
    parser.add_argument(
        '--raw',
        action='store_true',
        help='leave decoding and suppression out: the outputs are the logits and box '
        'deltas of all anchors, and the anchors',
    )
    parser.add_argument(
        '--int8',
        action='store_true',
        help='quantise the convolutions to 8 bits, and print AP before and after',
    )
    parser.add_argument(
        '--calibration-images',
        type=at_least(1),
        default=100,
        metavar='N',
        help='number of training images for --int8 (default: %(default)s)',
    )
    add_num(parser, 'of the test set for the check', 100)
    add_cfg_options(parser)
    add_unsafe_checkpoint(parser)
    args = parser.parse_args()
    suffix = args.out.suffix if args.out else SUFFIXES[args.format or 'onnx']
    by_suffix = {value: key for key, value in SUFFIXES.items()}
    args.format = args.format or by_suffix.get(suffix)
    if args.format is None or SUFFIXES[args.format] != suffix:
        parser.error(
            f'--out {args.out}: the name ends with '
            f'{SUFFIXES.get(args.format) or ", ".join(by_suffix)}'
        )
    if args.int8 and args.format == 'torch-export':
        parser.error('--int8 needs --format onnx or openvino')
    if args.int8 and args.raw:
        parser.error('--int8 needs detections to compare, which --raw leaves out')
    if args.out is None:
        kind = ''.join(['-raw' * args.raw, '-int8' * args.int8])
        checkpoint = Path(args.checkpoint)
        args.out = checkpoint.with_name(f'{checkpoint.stem}{kind}{suffix}')
    return args


def main() -> None:
    args = parse_args()
    files = written_files(args.out)
    check_outputs(files, [args.checkpoint])
    for file in files:
        check_output_file(file, args.overwrite)
    quiet_warnings()
    cfg = load_plain_config(args.config, args.cfg_options)
    detector = Detector(
        cfg,
        args.checkpoint,
        'cpu',
        unsafe_checkpoint=args.unsafe_checkpoint,
        warn=warn,
    )
    calibration = None
    if args.int8:
        calibration = load_calibration_images(cfg, args.calibration_images)
    try:
        export_detector(
            detector,
            cfg,
            args.out,
            args.format,
            load_test_images(cfg, detector.model, args.num),
            args.shape,
            args.raw,
            calibration,
        )
    except UserError as error:
        raise UserError(f'{args.out} is not written: {error}') from error
    print(f'Written  {args.out} ({args.out.stat().st_size / 1e6:.1f} MB)')


if __name__ == '__main__':
    with clear_errors():
        main()
