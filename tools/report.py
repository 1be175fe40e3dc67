"""Make a report of trained models: a folder of HTML that opens from disk.

A RUN is a work directory, a folder with seed-* in it (one model, several
seeds; tools/sweep.py makes them), or a file of detections in COCO format by any
detector. The page has what tools/compare.py prints, precision-recall curves,
the score threshold of the best F1, which classes are taken for each other, what
each kind of error costs, training curves, detections drawn over the images with
a slider for the score, facts about the data, and the configs. It needs no
server and no network.

Examples:
    python tools/report.py work_dirs/A work_dirs/B --out-dir report
    python tools/report.py mine.bbox.json --ann-file val.json --img-dir images
"""

import argparse

from focal_retinanet.cli.arguments import (
    add_comparison_arguments,
    add_img_dir,
    add_out_dir,
    at_least,
    tool_parser,
)
from focal_retinanet.cli.console import progress, quiet_warnings, warn
from focal_retinanet.cli.errors import UserError, clear_errors
from focal_retinanet.visualization.report import write_report


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add_comparison_arguments(parser)
    add_out_dir(parser, 'report', 'the page')
    add_img_dir(parser)
    parser.add_argument(
        '--max-images',
        type=at_least(0),
        default=200,
        metavar='N',
        help='number of images in the gallery, those of lowest AP50; an image takes '
        'about 40 kB, and 3 kB more for each run (default: %(default)s)',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.img_dir and not args.img_dir.is_dir():
        raise UserError(f'there is no folder {args.img_dir}')
    quiet_warnings()
    page = write_report(
        args.runs,
        args.out_dir,
        ann_file=args.ann_file,
        reference=args.reference,
        num_resamples=args.resamples,
        seed=args.seed,
        corrects=args.holm,
        img_dir=args.img_dir,
        max_images=args.max_images,
        overwrite=args.overwrite,
        progress=progress,
        warn=warn,
    )
    files = [file for file in page.parent.rglob('*') if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    print(f'wrote {page}: {len(files)} files, {size / 1e6:.1f} MB')


if __name__ == '__main__':
    with clear_errors():
        main()
