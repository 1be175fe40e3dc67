"""Where a detector goes wrong: the images that it is worst at, and its errors.

Writes the images of lowest AP50 and those with the most missed objects, each
beside its ground truth and all together on a sheet, and prints what each kind
of error costs (TIDE's kinds: classification, localisation, both, duplicate,
background, missed). RUN is a work directory, or a file of detections in COCO
format.

Examples:
    python tools/analyze_results.py work_dirs/mine --show-dir worst
    python tools/analyze_results.py theirs.bbox.json --ann-file val.json \\
        --img-dir images/ --topk 50 --show-score-thr 0.5
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from focal_retinanet.cli.console import quiet_mmengine
from focal_retinanet.cli.errors import UserError, clear_errors
from focal_retinanet.cli.output_dir import make_output_dir
from focal_retinanet.engine.inference import read_annotated_image
from focal_retinanet.evaluation.detection_errors import (
    ERRORS,
    KINDS,
    MISSED,
    ImageDetections,
    classify_detections,
    cost_of_errors,
    image_ap50,
)
from focal_retinanet.evaluation.ground_truth import GroundTruth, read_ground_truth
from focal_retinanet.evaluation.runs import find_models
from focal_retinanet.evaluation.tables import as_text
from focal_retinanet.visualization.detections import draw_detections, draw_grid

#: Images on a sheet.
GRID = 16


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('run', metavar='RUN')
    parser.add_argument('--ann-file', help="ground truth (default: the config's)")
    parser.add_argument(
        '--img-dir', type=Path, help="folder of the images (default: the config's)"
    )
    parser.add_argument(
        '--show-dir', type=Path, default='worst', help='default: %(default)s'
    )
    parser.add_argument(
        '--topk', type=int, default=20, help='images of each kind (default: 20)'
    )
    parser.add_argument(
        '--show-score-thr',
        type=float,
        default=0.3,
        help='lowest score that is drawn and that finds an object (default: 0.3); '
        'AP and the costs of errors are of all detections',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='write into a folder that has files'
    )
    args = parser.parse_args()
    if args.topk < 1:
        parser.error(f'--topk must be at least 1, got {args.topk}')
    return args


def main() -> None:
    args = parse_args()
    make_output_dir(args.show_dir, '--show-dir', args.overwrite)
    with quiet_mmengine():
        models, left_out = find_models([args.run])
        truth = read_ground_truth(models, args.ann_file, warn)
    for line in left_out:
        warn(f'left out {line}')
    run = models[0].runs[0]
    img_dir = args.img_dir or run.img_dir
    if img_dir is None:
        raise UserError(
            f'{args.run} does not say where the images are: name it by --img-dir'
        )
    images = classify_detections(truth.coco, run.detections, list(truth.classes))
    print(f'{run.path}, {truth.ann_file}: {len(images)} images')
    print(as_text(errors_table(images)))

    aps = {image.image_id: image_ap50(image) for image in images}
    not_found = {
        image.image_id: int(image.not_found(args.show_score_thr).sum())
        for image in images
    }
    with_objects = [i for i in images if not np.isnan(aps[i.image_id])]
    with_missed = [i for i in images if not_found[i.image_id]]
    orders = {
        'lowest_ap50': sorted(with_objects, key=lambda i: aps[i.image_id]),
        'most_missed': sorted(with_missed, key=lambda i: -not_found[i.image_id]),
    }
    for name, order in orders.items():
        titles = [
            f'AP50 {100 * aps[i.image_id]:.0f} %, {not_found[i.image_id]} of '
            f'{int((~i.gt_crowd).sum())} objects missed'
            for i in order[: args.topk]
        ]
        draw(order[: args.topk], titles, truth, img_dir, args, name)


def warn(line: str) -> None:
    print(f'warning: {line}', file=sys.stderr)


def errors_table(images: list[ImageDetections]) -> list[list[str]]:
    """Counts and costs, as rows of text."""
    costs = cost_of_errors(images)
    counts = {
        kind: sum(int(image.is_kind(kind).sum()) for image in images) for kind in KINDS
    }
    counts[MISSED] = sum(int(image.missed.sum()) for image in images)
    return [
        ['error', 'number', f'AP50 without it ({100 * costs["AP50"]:.1f} with all)'],
        *(
            [
                error,
                f'{counts[error]:,}',
                f'{100 * (costs["AP50"] + costs[error]):.1f} '
                f'({100 * costs[error]:+.1f})',
            ]
            for error in ERRORS
        ),
    ]


def draw(
    order: list[ImageDetections],
    titles: list[str],
    truth: GroundTruth,
    img_dir: Path,
    args: argparse.Namespace,
    name: str,
) -> None:
    """Write each image, and a sheet of the first ones."""
    folder = args.show_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    sheet = []
    for rank, (image, title) in enumerate(
        tqdm(list(zip(order, titles, strict=True)), name, leave=False, disable=None)
    ):
        annotated = truth.coco.imgs[image.image_id]
        file = img_dir / annotated['file_name']
        if not file.exists():
            raise UserError(f'{file} is not there: name the images by --img-dir')
        frame = read_annotated_image(file, (annotated['width'], annotated['height']))
        picture = draw_detections(
            frame[..., ::-1],
            image,
            truth.classes,
            args.show_score_thr,
            f'{file.name}: {title}',
        )
        _write(folder / f'{rank:03d}_{file.stem}.png', picture)
        if len(sheet) < GRID:
            sheet.append((frame[..., ::-1], image, title))
    if sheet:
        frames, found, captions = map(list, zip(*sheet, strict=True))
        grid = draw_grid(frames, found, captions, args.show_score_thr)
        _write(args.show_dir / f'{name}.png', grid)
        print(f'{name}: {len(order)} images in {folder}, {args.show_dir / name}.png')


def _write(file: Path, picture: np.ndarray) -> None:
    """An RGB picture; from memory, so that any file name will do."""
    _, data = cv2.imencode('.png', picture[..., ::-1])
    file.write_bytes(data.tobytes())


if __name__ == '__main__':
    with clear_errors():
        main()
