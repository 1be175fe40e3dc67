"""Weights of torchvision's models under the names that mmdet gives them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from mmdet.datasets import CocoDataset
from torch import Tensor

from focal_retinanet.cli.errors import UserError

# torchvision's classes are COCO's category ids; 0 and these have no category.
_UNUSED_IDS = {0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = [id_ for id_ in range(91) if id_ not in _UNUSED_IDS]
_ANCHORS = 9
# A batch norm whose variance and epsilon sum to 1 leaves a convolution as it is.
_EPS = 1e-5
# torchvision's normalisation of the input, RGB from 0 to 1.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# First block of each stage of MobileNetV2 among torchvision's features, and the end.
_STAGES = (1, 2, 4, 7, 11, 14, 17, 18)


@dataclass(frozen=True)
class Converted:
    """Weights that mmdet's models load.

    Attributes:
        name: Name of the model that they are of.
        state_dict: Weights by mmdet's names.
        classes: Names of the classes, if they are known.
        num_classes: Number of classes of a detector; None for a backbone.
        config: Config of the model; None for a backbone.
    """

    name: str
    state_dict: dict[str, Tensor]
    classes: tuple[str, ...] | None = None
    num_classes: int | None = None
    config: str | None = None


def convert(weights: Mapping[str, Tensor]) -> Converted:
    """Convert the weights of a RetinaNet or of a MobileNetV2 of torchvision.

    Args:
        weights: Weights by torchvision's names, of any of its versions.

    Raises:
        UserError: The weights are of another model.
    """
    if 'head.classification_head.cls_logits.weight' in weights:
        return _convert_retinanet(weights)
    if 'features.18.0.weight' in weights:
        return Converted('mobilenet_v2', _convert_mobilenet(weights))
    names = ', '.join(list(weights)[:3])
    if any(name.startswith('bbox_head.') for name in weights):
        raise UserError(
            f'these weights have the names of mmdet ({names}, ...): they load as they '
            'are'
        )
    raise UserError(
        f"these are not the weights of torchvision's RetinaNet or MobileNetV2: they "
        f'begin with {names}'
    )


def _convert_retinanet(weights: Mapping[str, Tensor]) -> Converted:
    _check_is_of_resnet50(weights)
    has_norm = 'head.classification_head.conv.0.1.weight' in weights
    state_dict = {_retinanet_name(name): value for name, value in weights.items()}
    num_classes = len(weights['head.classification_head.cls_logits.bias']) // _ANCHORS
    classes = None
    if num_classes == 91:
        classes, num_classes = CocoDataset.METAINFO['classes'], 80
        for name in ('bbox_head.retina_cls.weight', 'bbox_head.retina_cls.bias'):
            of_anchors = state_dict[name].unflatten(0, (_ANCHORS, 91))
            state_dict[name] = of_anchors[:, COCO_IDS].flatten(0, 1).contiguous()
    version = '-v2' if has_norm else ''
    return Converted(
        'retinanet_resnet50_fpn' + version.replace('-', '_'),
        state_dict,
        classes,
        num_classes,
        f'configs/torchvision/retinanet_r50_fpn_torchvision{version}.py',
    )


def _check_is_of_resnet50(weights: Mapping[str, Tensor]) -> None:
    """Refuse a RetinaNet of another body, or with other anchors, than the configs'."""
    # Of the ResNets, 50 alone has six blocks of three convolutions in this stage.
    last, further = (f'backbone.body.layer3.{i}.conv3.weight' for i in (5, 6))
    if last not in weights or further in weights:
        raise UserError(
            "these are the weights of a RetinaNet whose body is not torchvision's "
            'ResNet-50; no config here has another one'
        )
    anchors = len(weights['head.regression_head.bbox_reg.bias']) // 4
    if anchors != _ANCHORS:
        raise UserError(
            f'these are the weights of a RetinaNet with {anchors} anchors at each '
            f'place; what can be converted has {_ANCHORS}'
        )


def _retinanet_name(name: str) -> str:
    """mmdet's name of a weight of torchvision's RetinaNet."""
    patterns = [
        (r'backbone\.body\.', 'backbone.'),
        (
            r'backbone\.fpn\.inner_blocks\.(\d)\.(?:0\.)?',
            r'neck.lateral_convs.\1.conv.',
        ),
        (r'backbone\.fpn\.layer_blocks\.(\d)\.(?:0\.)?', r'neck.fpn_convs.\1.conv.'),
        (r'backbone\.fpn\.extra_blocks\.p6\.', 'neck.fpn_convs.3.conv.'),
        (r'backbone\.fpn\.extra_blocks\.p7\.', 'neck.fpn_convs.4.conv.'),
        (r'head\.classification_head\.cls_logits\.', 'bbox_head.retina_cls.'),
        (r'head\.regression_head\.bbox_reg\.', 'bbox_head.retina_reg.'),
    ]
    for ours, theirs in (('cls', 'classification'), ('reg', 'regression')):
        conv = rf'head\.{theirs}_head\.conv\.(\d)\.'
        patterns += [
            (rf'{conv}0\.', rf'bbox_head.{ours}_convs.\1.conv.'),
            (rf'{conv}1\.', rf'bbox_head.{ours}_convs.\1.gn.'),
        ]
        # Before torchvision 0.13, with the ReLUs in the same list.
        old = re.fullmatch(rf'head\.{theirs}_head\.conv\.(\d)\.(weight|bias)', name)
        if old:
            return f'bbox_head.{ours}_convs.{int(old[1]) // 2}.conv.{old[2]}'
    for pattern, replacement in patterns:
        new, count = re.subn(f'^{pattern}', replacement, name)
        if count:
            return new
    raise UserError(f"{name} is not a weight of torchvision's RetinaNet")


def _convert_mobilenet(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fold the batch norms into the convolutions, and the input's scale into the first.

    mmdet's config gives the network (pixel - 127.5) / 127.5.
    """
    state_dict: dict[str, Tensor] = {}
    for theirs, ours in _mobilenet_layers(weights):
        conv, norm = theirs
        weight, bias = _fold(weights, conv, norm)
        if ours == 'conv1':
            weight, bias = _for_other_input(weight, bias)
        state_dict[f'{ours}.conv.weight'] = weight
        state_dict |= {
            f'{ours}.bn.weight': torch.ones_like(bias),
            f'{ours}.bn.bias': bias,
            f'{ours}.bn.running_mean': torch.zeros_like(bias),
            f'{ours}.bn.running_var': torch.full_like(bias, 1 - _EPS),
            f'{ours}.bn.num_batches_tracked': torch.tensor(1),
        }
    return state_dict


def _mobilenet_layers(
    weights: Mapping[str, Tensor],
) -> list[tuple[tuple[str, str], str]]:
    """torchvision's convolution and batch norm, and mmdet's name, of each layer."""
    layers = [(('features.0.0', 'features.0.1'), 'conv1')]
    for stage, (first, end) in enumerate(pairwise(_STAGES), 1):
        for block in range(first, end):
            conv = f'features.{block}.conv'
            name = f'layer{stage}.{block - first}'
            inner = ['expand_conv', 'depthwise_conv']
            if f'{conv}.3.weight' not in weights:  # the first block expands nothing
                inner = inner[1:]
            layers += [
                ((f'{conv}.{i}.0', f'{conv}.{i}.1'), f'{name}.{kind}')
                for i, kind in enumerate(inner)
            ]
            last = len(inner)
            linear = (f'{conv}.{last}', f'{conv}.{last + 1}')
            layers.append((linear, f'{name}.linear_conv'))
    return [*layers, (('features.18.0', 'features.18.1'), 'conv2')]


def _fold(weights: Mapping[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the batch norm after it."""
    var, mean = weights[f'{norm}.running_var'], weights[f'{norm}.running_mean']
    scale = weights[f'{norm}.weight'].double() / (var.double() + _EPS).sqrt()
    weight = weights[f'{conv}.weight'].double() * scale[:, None, None, None]
    bias = weights[f'{norm}.bias'].double() - mean.double() * scale
    return weight.float(), bias.float()


def _for_other_input(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """First layer for an input from -1 to 1; exact but at the border of the image.

    There torchvision pads with its mean colour, and mmdet's config with grey.
    """
    mean, std = torch.tensor([_MEAN, _STD], dtype=torch.float64)
    of_offset = weight.double().sum(dim=(2, 3)) @ ((0.5 - mean) / std)
    scaled = weight.double() * (0.5 / std)[:, None, None]
    return scaled.float(), (bias.double() + of_offset).float()
