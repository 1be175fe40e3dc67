"""Where a detector goes wrong: the images that it is worst at, and its errors.

Writes the images of lowest AP50 and those with the most missed objects, each
beside its ground truth and all together on a sheet, and a chart of precision,
recall and F1 over the score threshold. Prints what each kind of error costs
(TIDE's kinds: classification, localisation, both, duplicate, background,
missed), the threshold of the best F1 of each class, and which classes are taken
for each other. RUN is a work directory, or a file of detections in COCO format.

Examples:
    python tools/analyze_results.py work_dirs/mine --out-dir worst
    python tools/analyze_results.py theirs.bbox.json --ann-file val.json \\
        --img-dir images/ --topk 50 --show-score-thr 0.5
"""

import argparse

from focal_retinanet.cli.arguments import (
    add_ann_file,
    add_img_dir,
    add_out_dir,
    add_score_thr,
    at_least,
    tool_parser,
)
from focal_retinanet.cli.console import quiet_mmengine, warn
from focal_retinanet.cli.errors import UserError, clear_errors
from focal_retinanet.cli.output_dir import make_output_dir
from focal_retinanet.evaluation.confusion import confusion_matrix, confusion_table
from focal_retinanet.evaluation.detection_errors import classify_detections
from focal_retinanet.evaluation.ground_truth import read_ground_truth
from focal_retinanet.evaluation.runs import find_models
from focal_retinanet.evaluation.score_thresholds import (
    describe_best,
    score_detections,
    thresholds_table,
)
from focal_retinanet.evaluation.tables import as_text
from focal_retinanet.evaluation.worst_images import errors_table, worst_images
from focal_retinanet.visualization.score_thresholds import draw_thresholds
from focal_retinanet.visualization.worst_images import save_worst_images


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument('run', metavar='RUN', help='trained model, see above')
    add_ann_file(parser)
    add_img_dir(parser)
    add_out_dir(parser, 'worst', 'the pictures')
    parser.add_argument(
        '--topk',
        type=at_least(1),
        default=20,
        help='number of images of each kind (default: %(default)s)',
    )
    add_score_thr(
        parser,
        'lowest score that is drawn, counted and that finds an object; AP and the '
        'costs of errors are of all detections',
        name='--show-score-thr',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    make_output_dir(args.out_dir, args.overwrite)
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
    score_thr = args.show_score_thr
    print(f'{run.path}, {truth.ann_file}: {len(images)} images')
    print(as_text(errors_table(images, score_thr)))
    by_class = score_detections(images, list(truth.classes))
    print('\nScore threshold, in percent at an IoU of 0.5:')
    print(as_text(thresholds_table(by_class, truth.classes, score_thr)))
    print(describe_best(by_class))
    matrix = confusion_matrix(images, list(truth.classes), score_thr)
    print(f'\nConfusion from a score of {score_thr:g} on, at an IoU of 0.5:')
    print(as_text(confusion_table(matrix, list(truth.classes.values()))))
    print()
    chart = draw_thresholds(
        by_class, truth.classes, args.out_dir / 'score_threshold.png', width=6.4
    )
    print(f'precision, recall and F1 over the score: {chart}')
    for name, worst in worst_images(images, score_thr, args.topk).items():
        save_worst_images(
            worst,
            truth,
            img_dir,
            args.out_dir / name,
            score_thr,
            run.ignores_orientation,
        )


if __name__ == '__main__':
    with clear_errors():
        main()
