"""Keep the README's tables of results in step with the metafiles.

Examples:
    python tools/zoo.py            # make the README's tables anew
    python tools/zoo.py --check    # fail where they differ
    python tools/zoo.py --add compared.json \\
        --metafile configs/ablations/metafile-mine.yml --dataset 'my data, val' \\
        --metadata Commit=1a2b3c4 'Hardware=one RTX 4090'
"""

import argparse
import json
from pathlib import Path

from focal_retinanet.cli.arguments import tool_parser
from focal_retinanet.cli.errors import UserError, clear_errors
from focal_retinanet.evaluation.zoo import add_comparison, fill_readme, read_models

ROOT = Path(__file__).parent.parent


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument(
        '--check', action='store_true', help='write nothing, fail where tables differ'
    )
    parser.add_argument(
        '--add',
        metavar='COMPARISON.json',
        help='add the models of tools/compare.py --json to a metafile, then make the '
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


def main() -> None:
    args = parse_args()
    if args.add:
        names = add_comparison(
            args.metafile,
            json.loads(Path(args.add).read_text()),
            args.dataset,
            dict(pair.split('=', 1) for pair in args.metadata),
        )
        print(f'{args.metafile}: {", ".join(names)}')
    readme = ROOT / 'README.md'
    text = readme.read_text()
    filled = fill_readme(text, read_models(ROOT))
    if filled == text:
        print('the tables in README.md are those of the metafiles')
    elif args.check:
        raise UserError(
            'the tables in README.md are not those of the metafiles; '
            'python tools/zoo.py makes them anew'
        )
    else:
        readme.write_text(filled)
        print('made the tables in README.md anew')


if __name__ == '__main__':
    with clear_errors():
        main()
