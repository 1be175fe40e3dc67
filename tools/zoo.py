"""Write the tables of results in the READMEs from the metafiles.

Examples:
    python tools/zoo.py            # write the tables
    python tools/zoo.py --check    # fail if a table differs
    python tools/zoo.py --add compared.json \\
        --metafile configs/ablations/metafile-mine.yml --dataset 'my data, val' \\
        --metadata Commit=1a2b3c4 'Hardware=one RTX 4090'
"""

import argparse
import json
from pathlib import Path

from focal_retinanet.cli.arguments import tool_parser
from focal_retinanet.cli.errors import UserError, clear_errors
from focal_retinanet.evaluation.zoo import (
    PAGES,
    fill_tables,
    metafile_name,
    read_metafiles,
    with_comparison,
    write_metafile,
)

ROOT = Path(__file__).resolve().parent.parent


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument(
        '--check', action='store_true', help='write nothing, fail if a table differs'
    )
    modes.add_argument(
        '--add',
        metavar='COMPARISON.json',
        help='add the models of tools/compare.py --json to a metafile, then write the '
        'tables',
    )
    parser.add_argument('--metafile', type=Path, help='metafile that --add extends')
    parser.add_argument(
        '--dataset', help='data that the models of --add were tested on'
    )
    parser.add_argument(
        '--metadata',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='facts about the models of --add: commit, hardware, command',
    )
    args = parser.parse_args()
    if args.add and not (args.metafile and args.dataset):
        parser.error('--add needs --metafile and --dataset')
    if wrong := [pair for pair in args.metadata if '=' not in pair]:
        parser.error(f'--metadata takes KEY=VALUE, got {wrong[0]}')
    return args


def _read_comparison(file: str) -> dict:
    try:
        comparison = json.loads(Path(file).read_text())
    except ValueError as error:
        raise UserError(f'--add {file} is not JSON: {error}') from error
    if not isinstance(comparison, dict) or 'differences' not in comparison:
        raise UserError(f'--add {file} is not what tools/compare.py --json writes')
    return comparison


def main() -> None:
    args = parse_args()
    models = read_metafiles(ROOT)
    if args.add:
        content, names = with_comparison(
            args.metafile,
            _read_comparison(args.add),
            args.dataset,
            dict(pair.split('=', 1) for pair in args.metadata),
        )
        name = metafile_name(args.metafile)
        if name in models and args.metafile.resolve().is_relative_to(ROOT):
            models[name] = content['Models']
    # Nothing is written if a table cannot be.
    texts = {page: (ROOT / page).read_text() for page in PAGES}
    tables = {page: fill_tables(page, text, models) for page, text in texts.items()}
    if args.add:
        write_metafile(args.metafile, content)
        print(f'{args.metafile}: {", ".join(names)}')
    for page, filled in tables.items():
        if filled == texts[page]:
            print(f'{page} shows the metafiles')
        elif args.check:
            raise UserError(
                f'the tables in {page} differ from the metafiles; python tools/zoo.py '
                'writes them'
            )
        else:
            (ROOT / page).write_text(filled)
            print(f'{page} has new tables')


if __name__ == '__main__':
    with clear_errors():
        main()
