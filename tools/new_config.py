"""Write a config for a folder of images and annotations, and say why it is as it is.

The format is found out: COCO (its own layout, Roboflow's, CVAT's, one JSON file for all
images), YOLO, Pascal VOC. Nothing is written into the folder. The config has at most 30
lines, each with its reason; docs/your-data.md has more.

Examples:
    python tools/new_config.py data/helmets
    python tools/new_config.py data/helmets --out configs/mine/helmets-large.py
"""

import argparse
import shlex
import sys
from collections import Counter
from pathlib import Path

import focal_retinanet.cli.cpu_threads  # noqa: F401

# isort: split
from focal_retinanet.cli.arguments import add_out_file, add_seed, tool_parser
from focal_retinanet.cli.console import quiet_mmengine, quiet_warnings, warn
from focal_retinanet.cli.errors import clear_errors
from focal_retinanet.cli.output_dir import check_output_dir, check_output_file
from focal_retinanet.data.formats import DataFolder, check_found, find_data
from focal_retinanet.engine.new_config import (
    Choices,
    annotation_dir,
    choose_recipe,
    choose_settings,
    write_config,
)

CONFIGS = Path(__file__).absolute().parent.parent / 'configs'


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument('data', type=Path, help='folder of the images and annotations')
    add_out_file(parser, None, content='the config', shown='configs/mine/DATA.py')
    add_seed(parser, 'the validation images, if the data name none')
    args = parser.parse_args()
    if args.out is None:
        args.out = CONFIGS / 'mine' / f'{args.data.absolute().name}.py'
        if args.out.is_relative_to(Path.cwd()):
            args.out = args.out.relative_to(Path.cwd())
    return args


def print_found(data: DataFolder, folder: Path) -> None:
    print(f'Found    {data.format} in {folder}')
    for name, split in data.splits.items():
        coco = split.coco
        names = {c['id']: c['name'] for c in coco['categories']}
        counts = Counter(names[a['category_id']] for a in coco['annotations'])
        classes = ', '.join(f'{n} {counts[n]}' for n in data.classes[:10])
        more = ', ...' if len(data.classes) > 10 else ''
        images, boxes = len(coco['images']), len(coco['annotations'])
        print(f'         {name}: {images} images, {boxes} boxes ({classes}{more})')
    for note in data.notes:
        print(f'         {note}')


def print_choices(choices: Choices) -> None:
    anchors = ', '.join(f'{k}={v}' for k, v in choices.anchors.value.items())
    crop = choices.crop
    for number, (what, choice) in enumerate(
        {
            f'input {"x".join(map(str, choices.scale.value))}': choices.scale,
            **({f'crops of {"x".join(map(str, crop.value))}': crop} if crop else {}),
            f'anchors {anchors}': choices.anchors,
            f'batch size {choices.batch_size.value}': choices.batch_size,
            f'learning rate {choices.lr.value}': choices.lr,
            f'{choices.max_iters.value} iterations': choices.max_iters,
            f'weights {choices.weights.value}': choices.weights,
        }.items()
    ):
        print(f'{"" if number else "Chose":8} {what}: {choice.reason}')


def main() -> None:
    args = parse_args()
    quiet_warnings()
    check_output_file(args.out, args.overwrite)
    check_output_dir(annotation_dir(args.out), args.overwrite, '--out')
    data = find_data(args.data, args.seed)
    for line in check_found(data):
        warn(line)
    print_found(data, args.data)
    recipe = choose_recipe()
    with quiet_mmengine():
        choices = choose_settings(data, recipe, CONFIGS / '_base_')
    print_choices(choices)
    command = shlex.join(['python', 'tools/new_config.py', *sys.argv[1:]])
    files = write_config(args.out, data, recipe, choices, CONFIGS / '_base_', command)
    print(f'Written  {", ".join(map(str, files))}')
    print(f'Next     python tools/train.py {shlex.quote(str(args.out))}')


if __name__ == '__main__':
    with clear_errors():
        main()
