"""Convert weights of torchvision for this project's configs.

RetinaNet (retinanet_resnet50_fpn and its v2) gives the same detections as in
torchvision, with the configs in configs/torchvision. MobileNetV2 becomes the backbone
that the configs for CPUs start from. Checkpoints of mmdet's model zoo need no
conversion.

Examples:
    python tools/convert_weights.py retinanet_resnet50_fpn_v2_coco-5905b1c5.pth
    python tools/convert_weights.py mobilenet_v2-b0353104.pth --out mobilenet.pth
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch

from focal_retinanet.cli.arguments import (
    add_overwrite,
    add_unsafe_checkpoint,
    tool_parser,
)
from focal_retinanet.cli.errors import UserError, clear_errors
from focal_retinanet.cli.output_dir import check_output_file, check_outputs
from focal_retinanet.engine.checkpoints.load import (
    enforce_safe_loading,
    load_from_local,
)
from focal_retinanet.engine.checkpoints.torchvision_weights import Converted, convert


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument('weights', type=Path, help='file of weights of torchvision')
    parser.add_argument(
        '--out',
        type=Path,
        metavar='FILE',
        help='file of the converted weights (default: the name of the weights with '
        '_converted, in the current folder)',
    )
    add_overwrite(parser)
    add_unsafe_checkpoint(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    out = args.out or Path(f'{args.weights.stem}_converted.pth')
    check_output_file(out, args.overwrite)
    check_outputs([out], [args.weights])
    enforce_safe_loading(allow_unsafe=args.unsafe_checkpoint)
    held = load_from_local(str(args.weights), map_location='cpu')
    # torchvision's training scripts save the weights under 'model'.
    weights = held
    if isinstance(held, Mapping):
        weights = held.get('model', held.get('state_dict', held))
    if not isinstance(weights, Mapping):
        raise UserError(
            f'{args.weights} has a {type(weights).__name__} where weights by their '
            "names should be; save the model's state_dict()"
        )
    try:
        converted = convert(weights)
    except UserError as error:
        raise UserError(f'{args.weights}: {error}') from error
    meta = {}
    if converted.classes is not None:
        meta['dataset_meta'] = dict(classes=converted.classes)
    torch.save(dict(state_dict=converted.state_dict, meta=meta), out)
    print('\n'.join(describe(converted, out)))


def describe(converted: Converted, out: Path) -> list[str]:
    """Describe the conversion, and the commands that use its result."""
    lines = [f'{converted.name} of torchvision is in {out}']
    if converted.config is None:
        return [*lines, f'Train from it: export MOBILENETV2={out}']
    if converted.classes is not None:
        lines.append("Of torchvision's 91 outputs, those of COCO's 80 classes are kept")
    else:
        lines.append(
            f'It has {converted.num_classes} classes: set model.bbox_head.num_classes'
        )
    return [
        *lines,
        f'Test it: python tools/test.py {converted.config} {out}',
        f'Train on your classes from it, with a config whose _base_ is that one: '
        f'python tools/train.py CONFIG --weights {out}',
    ]


if __name__ == '__main__':
    with clear_errors():
        main()
