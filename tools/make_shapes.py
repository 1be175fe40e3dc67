"""Make a COCO-format data set of synthetic shapes.

Examples:
    python tools/make_shapes.py data/shapes
    python tools/make_shapes.py data/crowded --train 1000 --objects 10 40 --size 512 512
"""

import argparse
from pathlib import Path

from focal_retinanet.cli.arguments import add_seed, tool_parser
from focal_retinanet.cli.errors import UserError, clear_errors
from focal_retinanet.data.shapes import ShapesConfig, make_shapes


def parse_args() -> argparse.Namespace:
    default = ShapesConfig()
    parser = tool_parser(__doc__)
    parser.add_argument('out', type=Path, help='folder of the data set')
    parser.add_argument(
        '--train',
        type=int,
        default=default.train,
        help='number of training images (default: %(default)s)',
    )
    parser.add_argument(
        '--val',
        type=int,
        default=default.val,
        help='number of validation images (default: %(default)s)',
    )
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(default.width, default.height),
        metavar=('W', 'H'),
        help='size of the images in pixels (default: %(default)s)',
    )
    parser.add_argument(
        '--objects',
        type=int,
        nargs=2,
        default=(default.min_objects, default.max_objects),
        metavar=('MIN', 'MAX'),
        help='number of objects in an image that has any (default: %(default)s)',
    )
    parser.add_argument(
        '--object-size',
        type=int,
        nargs=2,
        default=(default.min_size, default.max_size),
        metavar=('MIN', 'MAX'),
        help='diameter of the circle around an object in pixels (default: %(default)s)',
    )
    parser.add_argument(
        '--empty-fraction',
        type=float,
        default=default.empty_fraction,
        help='share of images without objects (default: %(default)s)',
    )
    add_seed(parser, 'the shapes', default.seed)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        config = ShapesConfig(
            train=args.train,
            val=args.val,
            width=args.size[0],
            height=args.size[1],
            min_objects=args.objects[0],
            max_objects=args.objects[1],
            min_size=args.object_size[0],
            max_size=args.object_size[1],
            empty_fraction=args.empty_fraction,
            seed=args.seed,
        )
        made = make_shapes(args.out, config)
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error
    done = 'made' if made else 'there already'
    print(f'{args.out}: {args.train} training and {args.val} validation images, {done}')


if __name__ == '__main__':
    with clear_errors():
        main()
