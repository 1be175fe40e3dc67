"""Settings of a config that make the same model faster."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseTTAModel
from torch import nn

from focal_retinanet.acceleration.accelerate import accelerate
from focal_retinanet.acceleration.amp import AmpOptimWrapper
from focal_retinanet.engine.tiled_model import TiledModel


class _Detector(nn.Module):
    test_step = None  # required by BaseTTAModel

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.bbox_head = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, images):
        return self.bbox_head(self.backbone(images))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return _Detector().eval()


def test_off_by_default(model):
    before = copy.deepcopy(model)
    accelerate(model, Config(), 'silent', 'cpu')
    assert [type(m) for m in model.modules()] == [type(m) for m in before.modules()]
    assert model.bbox_head.weight.is_contiguous()


@pytest.mark.parametrize(
    'settings',
    [
        dict(fold_batch_norm=True),
        dict(channels_last=True),
        dict(winograd=True),
        dict(fold_batch_norm=True, channels_last=True, winograd=True),
        # The eager backend compiles fast and takes the same path through our code.
        dict(compile=dict(backend='eager'), fold_batch_norm=True, winograd=True),
    ],
    ids=str,
)
def test_results_do_not_change_at_any_size(model, settings):
    fast = copy.deepcopy(model)
    accelerate(fast, Config(settings), 'silent', 'cpu')
    assert fast.state_dict().keys() == model.state_dict().keys()
    for size in ((16, 16), (20, 36)):
        images = torch.randn(2, 3, *size)
        ours, reference = fast(images), model(images)
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-5)
        if settings.get('channels_last'):
            assert ours.is_contiguous(memory_format=torch.channels_last)


def test_a_gpu_keeps_the_convolutions_of_pytorch(model, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'focal_retinanet.acceleration.accelerate.print_log',
        lambda line, logger: lines.append(line),
    )
    before = copy.deepcopy(model)
    settings = dict(fold_batch_norm=True, channels_last=True, winograd=True)
    accelerate(model, Config(settings), 'silent', torch.device('cuda', 0))
    assert [type(m) for m in model.modules()] == [type(m) for m in before.modules()]
    assert model.bbox_head.weight.is_contiguous(memory_format=torch.channels_last)
    (line,) = lines
    assert line.startswith('On cuda:0, fold_batch_norm and winograd')


class _Other(nn.ReLU):
    test_step = None


class _Augmented(BaseTTAModel):
    merge_preds = None


@pytest.mark.parametrize(
    'wrap',
    [
        _Augmented,
        lambda model: TiledModel(model, [], nms={}, batch_size=1, tiling={}),
    ],
    ids=['tta', 'tiles'],
)
def test_detector_inside_of_a_wrapper_is_compiled(model, wrap, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'focal_retinanet.acceleration.accelerate.print_log',
        lambda line, logger: lines.append(line),
    )
    settings = Config(dict(compile=dict(backend='eager')))
    accelerate(wrap(model), settings, 'silent', 'cpu')
    (line,) = lines
    assert line.startswith('backbone, bbox_head will be compiled')
    assert model.backbone._compiled_call_impl is not None
    lines.clear()
    accelerate(wrap(_Other()), settings, 'silent', 'cpu')
    (line,) = lines
    assert line.startswith('Nothing will be compiled: _Other')


@pytest.mark.skipif(torch.cuda.is_available(), reason='mmengine picks the GPU')
def test_mixed_precision_on_a_cpu(model):
    wrapper = AmpOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    before = copy.deepcopy(model.state_dict())
    with wrapper.optim_context(model):
        output = model(torch.randn(1, 3, 8, 8))
        assert output.dtype == torch.bfloat16
        loss = output.float().square().mean()
    wrapper.update_params(loss)
    assert not torch.equal(model.bbox_head.weight, before['bbox_head.weight'])
    assert model.bbox_head.weight.dtype == torch.float32
    wrapper.load_state_dict(wrapper.state_dict())
    with pytest.raises(ValueError, match='bfloat16'):
        AmpOptimWrapper(optimizer=wrapper.optimizer, dtype='float16')
