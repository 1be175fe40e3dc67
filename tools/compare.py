"""Compare trained models: a model zoo's table, and which differences are real.

A RUN is a work directory, a folder with seed-* in it (one model, several
seeds; tools/sweep.py makes them), or a file of detections in COCO format by any
detector. AP is pycocotools'. The interval of a difference comes from a paired
bootstrap over the images; where both models have several seeds, Welch's t-test
over the seeds has its say too.

Examples:
    python tools/compare.py work_dirs/A work_dirs/B
    python tools/compare.py work_dirs/sweep/table1b_* --reference table1b_gamma-2.0
    python tools/compare.py mine.bbox.json theirs.json --ann-file val.json
"""

import argparse
import json
from pathlib import Path

from focal_retinanet.cli.arguments import (
    add_comparison_arguments,
    add_overwrite,
    tool_parser,
)
from focal_retinanet.cli.console import progress, quiet_mmengine, warn
from focal_retinanet.cli.errors import clear_errors
from focal_retinanet.cli.output_dir import check_output_file, check_outputs
from focal_retinanet.evaluation.coco_metric import MOST_CLASSES
from focal_retinanet.evaluation.comparison import compare
from focal_retinanet.evaluation.runs import find_models
from focal_retinanet.evaluation.tables import (
    as_csv,
    as_markdown,
    as_text,
    classes_table,
    differences_table,
    models_table,
    notes,
)


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add_comparison_arguments(parser)
    parser.add_argument(
        '--classwise',
        action='store_true',
        help=f'show the AP of each class of more than {MOST_CLASSES} classes, too',
    )
    for name, content in (
        ('--json', 'all numbers in full precision'),
        ('--markdown', 'the tables'),
        ('--csv', 'one line for each model'),
    ):
        parser.add_argument(
            name, type=Path, metavar='FILE', help=f'write {content} to this file'
        )
    add_overwrite(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    outputs = [out for out in (args.json, args.markdown, args.csv) if out]
    check_outputs(outputs, [*args.runs, *filter(None, [args.ann_file])])
    for out in outputs:
        check_output_file(out, args.overwrite, 'file')
    with quiet_mmengine():
        models, left_out = find_models(args.runs)
    for line in left_out:
        warn(f'left out {line}')
    comparison = compare(
        models,
        args.ann_file,
        args.reference,
        args.resamples,
        args.seed,
        args.holm,
        progress=progress,
        warn=warn,
    )
    tables = [models_table(comparison)]
    classes = len(comparison['categories'])
    if args.classwise or 2 <= classes <= MOST_CLASSES:
        tables.append(classes_table(comparison))
    if comparison['differences']:
        tables.append(differences_table(comparison))
    head, *tail = notes(comparison)
    print('\n\n'.join([head, *map(as_text, tables), '\n'.join(tail)]))
    if args.json:
        args.json.write_text(json.dumps(comparison, indent=2) + '\n')
    if args.markdown:
        text = '\n\n'.join([head, *map(as_markdown, tables), *tail])
        args.markdown.write_text(text + '\n')
    if args.csv:
        args.csv.write_text(as_csv(comparison))


if __name__ == '__main__':
    with clear_errors():
        main()
