"""Compare trained models: a model zoo's table, and which differences are real.

A RUN is a work directory, a folder with seed-* in it (one model, several
seeds; tools/sweep.py makes them), or a file of detections in COCO format by any
detector. AP is pycocotools'. The interval of a difference is by paired
bootstrap over the images; where both models have several seeds, Welch's t-test
over the seeds has its say too.

Examples:
    python tools/compare.py work_dirs/A work_dirs/B
    python tools/compare.py work_dirs/sweep/table1b_* --reference table1b_gamma-2.0
    python tools/compare.py mine.bbox.json theirs.json --ann-file val.json
"""

import argparse
import json
import sys
from pathlib import Path

from tqdm import tqdm

from focal_retinanet.cli.arguments import add_comparison_arguments
from focal_retinanet.cli.console import quiet_mmengine
from focal_retinanet.cli.errors import UserError, clear_errors
from focal_retinanet.evaluation.comparison import compare
from focal_retinanet.evaluation.runs import find_models
from focal_retinanet.evaluation.tables import (
    as_csv,
    as_markdown,
    as_text,
    differences_table,
    models_table,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_comparison_arguments(parser)
    parser.add_argument('--json', metavar='OUT', help='all numbers, full precision')
    parser.add_argument('--markdown', metavar='OUT', help='the tables')
    parser.add_argument('--csv', metavar='OUT', help='one line a model')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    outputs = [Path(out) for out in (args.json, args.markdown, args.csv) if out]
    check_outputs(outputs, [*args.runs, *([args.ann_file] if args.ann_file else [])])
    with quiet_mmengine():
        models, left_out = find_models(args.runs)
    for line in left_out:
        _warn(f'left out {line}')
    comparison = compare(
        models,
        args.ann_file,
        args.reference,
        args.resamples,
        args.seed,
        progress=lambda rows, name: tqdm(rows, name, leave=False, disable=None),
        warn=_warn,
    )
    tables = [models_table(comparison)]
    if comparison['differences']:
        tables.append(differences_table(comparison))
    notes = _notes(comparison)
    print(notes[0] + '\n')
    print('\n\n'.join(as_text(table) for table in tables))
    print('\n' + '\n'.join(notes[1:]))
    if args.json:
        Path(args.json).write_text(json.dumps(comparison, indent=2) + '\n')
    if args.markdown:
        parts = [notes[0], *map(as_markdown, tables), *notes[1:]]
        Path(args.markdown).write_text('\n\n'.join(parts) + '\n')
    if args.csv:
        Path(args.csv).write_text(as_csv(comparison))


def check_outputs(outputs: list[Path], inputs: list[str]) -> None:
    """See that files can be written and write over nothing that is needed, before
    the work and not after it."""
    taken = {Path(name).resolve() for name in inputs}
    for out in outputs:
        if not out.parent.is_dir():
            raise UserError(f'there is no folder {out.parent} for {out}')
        if out.is_dir():
            raise UserError(f'{out} is a folder; name a file')
        if out.resolve() in taken:
            raise UserError(
                f'{out} is an input or another output of this call; name another file'
            )
        taken.add(out.resolve())


def _notes(comparison: dict) -> list[str]:
    """What the tables are of, and how their numbers were made."""
    notes = [
        f'{comparison["ann_file"]}: {comparison["images"]} images, '
        f'{len(comparison["categories"])} class'
        f'{"" if len(comparison["categories"]) == 1 else "es"}. AP in percent'
        + (
            ', ± standard deviation over seeds.'
            if any(row['AP_sd'] is not None for row in comparison['models'])
            else '.'
        )
    ]
    if comparison['differences']:
        notes.append(
            f'Differences are to {comparison["differences"][0]["reference"]}; intervals '
            f'by paired bootstrap over the images ({comparison["resamples"]} resamples, '
            f'seed {comparison["seed"]}).'
        )
        if any(gap['p_seeds'] is None for gap in comparison['differences']):
            notes.append(
                'Where a model has one seed, whether another seed turns the difference '
                'around is not measured.'
            )
        if len(comparison['differences']) > 1:
            notes.append(
                f'Each is at {100 * comparison["confidence"]:g} % by itself: of many, '
                'some will look real by chance.'
            )
    return notes


def _warn(line: str) -> None:
    print(f'warning: {line}', file=sys.stderr)


if __name__ == '__main__':
    with clear_errors():
        main()
