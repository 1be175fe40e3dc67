"""Write a config for a folder of images and annotations, and say why it is as it is.

The format is found out: COCO (its own layout, Roboflow's, CVAT's, one JSON file for all
images), YOLO, Pascal VOC. Nothing is written into the folder. The config has at most 30
lines, each with its reason; docs/your-data.md has more.

Examples:
    python tools/new_config.py data/helmets
    python tools/new_config.py data/helmets --out configs/mine/helmets-large.py
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

from focal_retinanet.cli.arguments import add_out_file, add_seed, tool_parser
from focal_retinanet.cli.console import quiet_mmengine, quiet_warnings, warn
from focal_retinanet.cli.errors import UserError, clear_errors
from focal_retinanet.cli.output_dir import check_output_dir, check_output_file
from focal_retinanet.data.formats import check_found, find_data
from focal_retinanet.engine.new_config import (
    annotation_dir,
    choose_recipe,
    choose_settings,
    describe_choices,
    describe_found,
    write_config,
)

CONFIGS = Path(__file__).absolute().parent.parent / 'configs'


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument('data', type=Path, help='folder of the images and annotations')
    add_out_file(parser, None, content='the config', shown='configs/mine/DATA.py')
    add_seed(parser, 'the validation images, if the data name none')
    args = parser.parse_args()
    if args.out is not None and args.out.suffix != '.py':
        parser.error(f'--out {args.out}: a config ends in .py')
    if args.out is None:
        name = Path(os.path.abspath(args.data)).name  # also of . and ..
        args.out = CONFIGS / 'mine' / f'{name}.py'
        if args.out.is_relative_to(Path.cwd()):
            args.out = args.out.relative_to(Path.cwd())
    return args


def main() -> None:
    args = parse_args()
    quiet_warnings()
    check_output_file(args.out, args.overwrite)
    folder = annotation_dir(args.out)
    if folder.resolve().is_relative_to(args.data.resolve()):
        raise UserError(
            f'--out {args.out}: its annotation files would be in {folder}, inside of the '
            f'data, where nothing is written; name a file elsewhere, such as '
            f'configs/mine/{args.out.name}'
        )
    check_output_dir(folder, args.overwrite, '--out')
    data = find_data(args.data, args.seed)
    for line in check_found(data):
        warn(line)
    print(describe_found(data, args.data))
    recipe = choose_recipe()
    with quiet_mmengine():
        choices = choose_settings(data, recipe, CONFIGS / 'recipes')
    print(describe_choices(choices))
    command = shlex.join(['python', 'tools/new_config.py', *sys.argv[1:]])
    files = write_config(args.out, data, recipe, choices, CONFIGS / 'recipes', command)
    print(f'Written  {", ".join(map(str, files))}')
    print(f'Next     python tools/train.py {shlex.quote(str(args.out))}')


if __name__ == '__main__':
    with clear_errors():
        main()
