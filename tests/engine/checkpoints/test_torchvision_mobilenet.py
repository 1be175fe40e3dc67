"""torchvision's MobileNetV2 becomes the folded backbone that configs start from."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from focal_retinanet.cli.errors import UserError
from focal_retinanet.engine.checkpoints.load import load_from_local
from focal_retinanet.engine.checkpoints.torchvision_weights import convert

ROOT = Path(__file__).parents[3]
CLOSE = dict(rtol=1e-3, atol=1e-4)
#: Expansion, channels, blocks and stride of each stage, as in the paper's table 2.
STAGES = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]


def layer(inputs, outputs, size=3, stride=1, groups=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        inner = inputs * expansion
        parts = [layer(inputs, inner, 1)] if expansion > 1 else []
        parts += [layer(inner, inner, 3, stride, inner)]
        parts += [nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.conv = nn.Sequential(*parts)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNet(nn.Module):
    """MobileNetV2 with torchvision's names, and batch norms that do something."""

    def __init__(self):
        super().__init__()
        parts, inputs = [layer(3, 32, stride=2)], 32
        for expansion, outputs, blocks, stride in STAGES:
            for block in range(blocks):
                parts.append(Block(inputs, outputs, stride ** (block == 0), expansion))
                inputs = outputs
        self.features = nn.Sequential(*parts, layer(320, 1280, 1))
        torch.manual_seed(0)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out')
            if isinstance(module, nn.BatchNorm2d):
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.normal_(0, 0.1)
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)


@torch.no_grad()
def test_features_are_those_of_the_unfolded_network():
    theirs = MobileNet().eval()
    cfg = Config.fromfile(ROOT / 'configs/_base_/models/retinanet_mobilenetv2_fpn.py')
    cfg.model.backbone.init_cfg = None
    init_default_scope('mmdet')
    ours = MODELS.build(cfg.model.backbone)
    ours.eval()
    ours.load_state_dict(convert(theirs.state_dict()).state_dict)

    torch.manual_seed(1)
    pixels = torch.randint(256, (1, 3, 96, 96)).float()
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    normalized = (pixels / 255 - mean[:, None, None]) / std[:, None, None]
    first = theirs.features[0](normalized)
    preprocessor = cfg.model.data_preprocessor
    mean, std = torch.tensor([preprocessor.mean, preprocessor.std])
    own = (pixels - mean[:, None, None]) / std[:, None, None]
    got = ours.conv1(own)
    # The border is padded with grey instead of the mean colour.
    torch.testing.assert_close(got[..., 1:, 1:], first[..., 1:, 1:], **CLOSE)
    assert not torch.allclose(got[..., 0, :], first[..., 0, :], atol=1e-3)
    for stage in range(1, 8):
        got = getattr(ours, f'layer{stage}')(first)
        begin = 1 + sum(blocks for *_, blocks, _ in STAGES[: stage - 1])
        for block in range(begin, begin + STAGES[stage - 1][2]):
            first = theirs.features[block](first)
        torch.testing.assert_close(got, first, **CLOSE)
    torch.testing.assert_close(ours.conv2(first), theirs.features[18](first), **CLOSE)


def test_the_tool_writes_what_configs_load(tmp_path, monkeypatch, capsys):
    theirs = tmp_path / 'mobilenet_v2.pth'
    torch.save(MobileNet().state_dict(), theirs)
    main = runpy.run_path(str(ROOT / 'tools/convert_weights.py'))['main']
    out = tmp_path / 'converted.pth'
    arguments = ['convert_weights.py', str(theirs), '--out', str(out)]
    monkeypatch.setattr(sys, 'argv', arguments)
    main()
    assert f'export MOBILENETV2={out}' in capsys.readouterr().out
    assert 'conv1.bn.bias' in load_from_local(str(out))['state_dict']
    with pytest.raises(UserError, match='exists: name another --out'):
        main()
    monkeypatch.setattr(sys, 'argv', [*arguments[:1], str(out), '--out', str(theirs)])
    with pytest.raises(UserError, match='exists'):
        main()
    monkeypatch.setattr(sys, 'argv', [*arguments[:1], str(out), '--out', 'x.pth'])
    with pytest.raises(
        UserError, match=r'converted\.pth: these are not the weights of'
    ):
        main()


@pytest.mark.parametrize(
    'held', [[torch.zeros(1)], dict(model=torch.zeros(1))], ids=['list', 'tensor']
)
def test_a_file_without_names_of_weights_is_named(held, tmp_path, fail):
    file = tmp_path / 'mine.pth'
    torch.save(held, file)
    out = tmp_path / 'converted.pth'
    says = fail('tools/convert_weights.py', file, '--out', out)
    assert 'mine.pth has a ' in says and 'where weights by their names' in says


def test_names_are_those_of_torchvision():
    models = pytest.importorskip(
        'torchvision.models', reason='torchvision is not installed'
    )
    theirs = {
        name: value.shape
        for name, value in models.mobilenet_v2(weights=None).state_dict().items()
        if name.startswith('features.')
    }
    assert theirs == {n: v.shape for n, v in MobileNet().state_dict().items()}


def test_the_format_is_that_of_the_file_in_use(shared_data):
    file = shared_data / 'weights' / 'mobilenet_v2_imagenet_bnfolded.pth'
    used = torch.load(file, weights_only=True)['state_dict']
    converted = convert(MobileNet().state_dict()).state_dict
    assert {n: v.shape for n, v in converted.items()} == {
        n: v.shape for n, v in used.items()
    }
    for name in ('conv1.bn.running_var', 'conv2.bn.running_mean', 'conv2.bn.weight'):
        torch.testing.assert_close(converted[name], used[name])


def test_the_error_of_a_missing_file_names_the_converter(tmp_path, monkeypatch):
    monkeypatch.delenv('MOBILENETV2', raising=False)
    says = r'tools/convert_weights\.py mobilenet'
    with pytest.raises(FileNotFoundError, match=says):
        load_from_local(str(tmp_path / 'mobilenet_v2_imagenet_bnfolded.pth'))
    monkeypatch.setenv('MOBILENETV2', 'my/weights.pth')
    with pytest.raises(FileNotFoundError, match=says):
        load_from_local('my/weights.pth')
