"""Converted weights give torchvision's detections.

Where torchvision cannot be imported, detections that it gave are compared. They are
in torchvision_detections.json, which `python test_torchvision_retinanet.py` writes
with torchvision.
"""

import functools
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor

from focal_retinanet.cli.errors import UserError
from focal_retinanet.engine.checkpoints.start import keep_what_fits
from focal_retinanet.engine.checkpoints.torchvision_weights import COCO_IDS, convert

ROOT = Path(__file__).parents[3]
NUMBERS = Path(__file__).with_name('torchvision_detections.json')
#: P7 has a stride of 128 pixels downwards and of 112 sideways.
SIZE = (128, 224)
SHOWN = 20


@functools.cache
def retinanet_weights(version: int) -> dict[str, Tensor]:
    """Random weights of retinanet_resnet50_fpn (1) or its v2 (2)."""
    resnet = ResNet(50).state_dict()
    shapes = {f'backbone.body.{name}': value.shape for name, value in resnet.items()}

    def conv(name, outputs, inputs, size=3, bias=True):
        shapes[f'{name}.weight'] = (outputs, inputs, size, size)
        if bias:
            shapes[f'{name}.bias'] = (outputs,)

    for level, channels in enumerate((512, 1024, 2048)):
        conv(f'backbone.fpn.inner_blocks.{level}.0', 256, channels, 1)
        conv(f'backbone.fpn.layer_blocks.{level}.0', 256, 256)
    conv('backbone.fpn.extra_blocks.p6', 256, 256 if version == 1 else 2048)
    conv('backbone.fpn.extra_blocks.p7', 256, 256)
    for head in ('classification', 'regression'):
        for layer in range(4):
            name = f'head.{head}_head.conv.{layer}'
            conv(f'{name}.0', 256, 256, bias=version == 1)
            if version == 2:
                shapes |= {f'{name}.1.{part}': (256,) for part in ('weight', 'bias')}
    conv('head.classification_head.cls_logits', 9 * 91, 256)
    conv('head.regression_head.bbox_reg', 9 * 4, 256)
    return _filled(shapes)


def image(height: int, width: int) -> Tensor:
    """A picture (3, height, width) of uint8 RGB."""
    y, x = np.mgrid[:height, :width]
    channels = [
        np.sin(x / 7 + y / 11),
        np.cos(x / 5) * np.sin(y / 9),
        np.sin(x * y / 300),
    ]
    return torch.from_numpy((np.stack(channels) * 100 + 128).astype(np.uint8))


def _filled(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: _values(name, tuple(shape)) for name, shape in shapes.items()}


def _values(name: str, shape: tuple[int, ...]) -> Tensor:
    """Values that keep activations of the size that they come in."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith('num_batches_tracked'):
        return torch.tensor(1)
    # Small variances, in which an epsilon shows.
    own = np.random.default_rng(zlib.crc32(name.rpartition('.')[0].encode()))
    var = 10 ** own.uniform(-4, 0, shape)
    is_norm = len(shape) == 1 and ('bn' in name or 'downsample.1' in name)
    if name.endswith('running_var'):
        values = var
    elif is_norm and name.endswith('.weight'):
        damped = 0.3 if 'bn3' in name else 1.0
        values = damped * np.sqrt(var)
    elif name.endswith('.1.weight') and len(shape) == 1:  # group norm
        values = 1 + 0.1 * random.standard_normal(shape)
    elif name.endswith(('running_mean', 'bias')):
        values = 0.1 * random.standard_normal(shape)
        if 'cls_logits' in name:
            values -= 4
    else:
        fan_in = np.prod(shape[1:])
        # Scores and boxes of every kind, none of them at the end of its range.
        gain = 0.2 if 'bbox_reg' in name or 'inner_blocks' in name else 1.4
        values = gain * random.standard_normal(shape) / np.sqrt(fan_in)
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmdet')


def ours(converted, num_classes=None):
    """The config's model with converted weights, all of which it takes."""
    cfg = Config.fromfile(ROOT / converted.config)
    cfg.model.bbox_head.num_classes = num_classes or converted.num_classes
    model = MODELS.build(cfg.model).eval()
    checkpoint = dict(state_dict=dict(converted.state_dict))
    lines = keep_what_fits(model, checkpoint, 'converted.pth')
    model.load_state_dict(checkpoint['state_dict'])
    return model, lines


@torch.no_grad()
def detect(model, picture):
    """Boxes (N, 4), scores (N,) and labels (N,) of a picture (3, H, W) of uint8 RGB."""
    height, width = picture.shape[1:]
    sample = DetDataSample(
        metainfo=dict(
            img_shape=(height, width), ori_shape=(height, width), scale_factor=(1, 1)
        )
    )
    batch = dict(inputs=[picture.flip(0)], data_samples=[sample])
    found = model.test_step(batch)[0].pred_instances
    return found.bboxes, found.scores, found.labels


@pytest.mark.parametrize('version', [1, 2])
def test_detections_are_those_that_torchvision_gave(version):
    converted = convert(retinanet_weights(version))
    assert converted.name == f'retinanet_resnet50_fpn{"_v2" * (version - 1)}'
    assert converted.classes[:3] == ('person', 'bicycle', 'car')
    model, lines = ours(converted)
    assert len(lines) == 1 and lines[0].startswith('All ')
    boxes, scores, labels = detect(model, image(*SIZE))
    expected = json.loads(NUMBERS.read_text())[f'v{version}']
    assert len(scores) == expected['count']
    for got, name in ((boxes, 'boxes'), (scores, 'scores')):
        torch.testing.assert_close(
            got[:SHOWN], torch.tensor(expected[name]), rtol=1e-3, atol=1e-3
        )
    assert [COCO_IDS[label] for label in labels[:SHOWN]] == expected['labels']


@pytest.mark.parametrize('version', [1, 2])
def test_detections_are_those_of_torchvision(version):
    pytest.importorskip(
        'torchvision', reason='torchvision is not installed', exc_type=ImportError
    )
    weights = retinanet_weights(version)
    theirs = detect_by_torchvision(weights, version, image(*SIZE))
    model, _ = ours(convert(weights))
    boxes, scores, labels = detect(model, image(*SIZE))
    assert len(scores) == len(theirs['scores']) > SHOWN
    torch.testing.assert_close(scores, theirs['scores'], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(boxes, theirs['boxes'], rtol=1e-4, atol=1e-3)
    assert [COCO_IDS[label] for label in labels] == theirs['labels'].tolist()


@torch.no_grad()
def detect_by_torchvision(weights, version, picture):
    """Detections of COCO's 80 classes by torchvision, from all 91 outputs."""
    from torchvision.models import detection

    weights = dict(weights)
    build = getattr(detection, f'retinanet_resnet50_fpn{"_v2" * (version - 1)}')
    # As large as the picture is: nothing is resized.
    model = build(
        weights=None,
        weights_backbone=None,
        min_size=picture.shape[1],
        max_size=picture.shape[2],
    ).eval()
    model.load_state_dict(weights)
    if version == 1:  # as torchvision sets it for the weights of COCO
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = 1e-60  # 0 in fp32; torch 2.11 refuses 0 itself
    unused = sorted(set(range(91)) - set(COCO_IDS))
    bias = model.head.classification_head.cls_logits.bias
    bias.view(9, 91)[:, unused] = -100
    (found,) = model([picture / 255])
    return found


def test_another_number_of_classes_leaves_the_class_layer_out():
    _, (_, rest) = ours(convert(retinanet_weights(2)), num_classes=4)
    assert 'The class layer starts anew, for another number of classes' in rest
    assert 'retina_cls.weight is (720, 256, 3, 3) in the file and (36, ' in rest


def test_names_of_older_versions():
    weights = retinanet_weights(1)
    old = {}
    for name, value in weights.items():
        parts = name.split('.')
        if '_head.conv.' in name:
            parts = [*parts[:3], str(2 * int(parts[3])), parts[-1]]
        elif '_blocks.' in name and 'extra' not in name:
            parts = [*parts[:4], parts[-1]]
        old['.'.join(parts)] = value
    assert old.keys() != weights.keys()
    new, of_old = convert(weights).state_dict, convert(old).state_dict
    assert new.keys() == of_old.keys()
    assert all(torch.equal(new[name], of_old[name]) for name in new)


@pytest.mark.parametrize(
    ('weights', 'message'),
    [
        ({'bbox_head.retina_cls.weight': 0}, 'have the names of mmdet .* as they are'),
        ({'layer1.0.conv1.weight': 0}, 'not the weights of torchvision.* layer1'),
    ],
)
def test_other_models_are_rejected(weights, message):
    with pytest.raises(UserError, match=message):
        convert(weights)


def without(weights, prefix):
    return {name: v for name, v in weights.items() if not name.startswith(prefix)}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda w: without(w, 'backbone.body.'), 'body is not .*ResNet-50'),
        (
            lambda w: w | {'backbone.body.layer3.6.conv3.weight': torch.zeros(1)},
            'body is not .*ResNet-50',
        ),
        (
            lambda w: w | {'head.regression_head.bbox_reg.bias': torch.zeros(60)},
            'with 15 anchors at each place; what can be converted has 9',
        ),
    ],
    ids=['MobileNet', 'ResNet-101', '15 anchors'],
)
def test_retinanets_that_no_config_has_are_rejected(change, message):
    with pytest.raises(UserError, match=message):
        convert(change(retinanet_weights(1)))


def write_numbers():
    numbers = {}
    for version in (1, 2):
        found = detect_by_torchvision(retinanet_weights(version), version, image(*SIZE))
        numbers[f'v{version}'] = dict(
            count=len(found['scores']),
            boxes=[
                [round(x, 3) for x in box] for box in found['boxes'][:SHOWN].tolist()
            ],
            scores=[round(x, 5) for x in found['scores'][:SHOWN].tolist()],
            labels=found['labels'][:SHOWN].tolist(),
        )
    NUMBERS.write_text(json.dumps(numbers) + '\n')


if __name__ == '__main__':
    write_numbers()
