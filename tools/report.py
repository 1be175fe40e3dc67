"""Make a report of trained models: a folder of HTML that opens from disk.

A RUN is a work directory, a folder with seed-* in it (one model, several
seeds; tools/sweep.py makes them), or a file of detections in COCO format by any
detector. The page has what tools/compare.py prints, precision-recall curves,
what each kind of error costs, training curves, detections drawn over the images
with a slider for the score, facts of the data and the configs. It needs no
server and no network.

Examples:
    python tools/report.py work_dirs/A work_dirs/B --out report
    python tools/report.py mine.bbox.json --ann-file val.json --img-dir images
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from focal_retinanet.cli.arguments import add_comparison_arguments
from focal_retinanet.cli.console import quiet_warnings
from focal_retinanet.cli.errors import UserError, clear_errors
from focal_retinanet.visualization.report import write_report


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_comparison_arguments(parser)
    parser.add_argument('--out', default='report', help='folder (default: report)')
    parser.add_argument(
        '--img-dir', help="folder of its images (default: that of the runs' configs)"
    )
    parser.add_argument(
        '--max-images',
        type=int,
        default=200,
        metavar='N',
        help='images in the gallery, the worst by AP50; an image takes about 40 kB, '
        'and 3 kB more for each run (default: 200)',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='write into a folder that has files'
    )
    args = parser.parse_args()
    if args.max_images < 0:
        parser.error(f'--max-images must be at least 0, got {args.max_images}')
    return args


def main() -> None:
    args = parse_args()
    if args.img_dir and not Path(args.img_dir).is_dir():
        raise UserError(f'there is no folder {args.img_dir}')
    quiet_warnings()
    page = write_report(
        args.runs,
        args.out,
        ann_file=args.ann_file,
        reference=args.reference,
        num_resamples=args.resamples,
        seed=args.seed,
        img_dir=args.img_dir,
        max_images=args.max_images,
        overwrite=args.overwrite,
        progress=lambda rows, name: tqdm(rows, name, leave=False, disable=None),
        warn=lambda line: tqdm.write(f'warning: {line}', file=sys.stderr),
    )
    files = [file for file in page.parent.rglob('*') if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    print(f'wrote {page}: {len(files)} files, {size / 1e6:.1f} MB')


if __name__ == '__main__':
    with clear_errors():
        main()
