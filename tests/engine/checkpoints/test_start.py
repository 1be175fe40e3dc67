"""A training starts from the weights that fit, and says which do not."""

import copy
from pathlib import Path

import mmdet
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from focal_retinanet.cli.errors import UserError
from focal_retinanet.engine.checkpoints.start import keep_what_fits

OURS = Path(__file__).parents[3] / 'configs'
MMDET_CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs'


class Detector(nn.Module):
    def __init__(self, classes=3, neck=False):
        super().__init__()
        self.backbone = nn.Linear(2, 2)
        if neck:
            self.neck = nn.Linear(2, 2)
        self.bbox_head = nn.ModuleDict(dict(retina_cls=nn.Linear(2, classes)))


def test_all_fit_whatever_their_prefix():
    model, other = Detector(), Detector()
    weights = {f'module.{name}': value for name, value in other.state_dict().items()}
    lines = keep_what_fits(model, weights, 'a.pth')
    assert lines == ['All 4 weights of the model come from a.pth']
    model.load_state_dict(weights['state_dict'])
    plain = dict(state_dict=other.state_dict())
    keep_what_fits(model, plain, 'a.pth')
    assert plain['state_dict']._metadata == model.state_dict()._metadata
    assert torch.equal(model.backbone.weight, other.backbone.weight)


def test_another_number_of_classes():
    model = Detector()
    checkpoint = dict(
        state_dict=Detector(classes=5).state_dict(),
        meta=dict(dataset_meta=dict(classes=tuple('abcde'))),
    )
    fits, rest = keep_what_fits(model, checkpoint, 'a.pth')
    assert fits == '2 of 4 weights of the model come from a.pth'
    assert rest == (
        'The class layer starts anew, for another number of classes: '
        'bbox_head.retina_cls.weight is (5, 2) in the file and (3, 2) in the model; '
        'bbox_head.retina_cls.bias is (5,) in the file and (3,) in the model. '
        'It was trained on 5 classes (a, b, c, d, e)'
    )
    before = copy.deepcopy(model.bbox_head.state_dict())
    model.load_state_dict(checkpoint['state_dict'])
    for name, value in model.bbox_head.state_dict().items():
        assert torch.equal(value, before[name])


def test_other_layers():
    fits, rest = keep_what_fits(
        Detector(neck=True), dict(Detector().state_dict()), 'a.pth'
    )
    assert fits == '4 of 6 weights of the model come from a.pth'
    assert rest.startswith('These start anew: neck.weight (2, 2) is only in the model')
    fits, rest = keep_what_fits(
        Detector(), dict(Detector(neck=True).state_dict()), 'a.pth'
    )
    assert rest.startswith('Not used, as the model has no such weights: neck.weight')


@pytest.mark.parametrize(
    ('name', 'hint'), [('x', ''), ('backbone.body.conv1.weight', 'convert_weights.py')]
)
def test_nothing_fits(name, hint):
    with pytest.raises(UserError, match=r'a\.pth has no weight that fits') as caught:
        keep_what_fits(Detector(), {name: torch.zeros(1)}, 'a.pth')
    assert hint in str(caught.value)


def test_checkpoints_of_mmdets_retinanet_load_as_they_are():
    theirs = Config.fromfile(MMDET_CONFIGS / 'retinanet/retinanet_r50_fpn_1x_coco.py')
    model = copy.deepcopy(theirs.model)
    model.backbone.init_cfg = None
    init_default_scope('mmdet')
    checkpoint = dict(state_dict=MODELS.build(model).state_dict())
    ours = Config.fromfile(OURS / 'retinanet/retinanet_r50_fpn_90k_coco-800px.py')
    ours.model.backbone.init_cfg = None
    built = MODELS.build(ours.model)
    lines = keep_what_fits(built, checkpoint, 'zoo.pth')
    assert len(lines) == 1 and lines[0].startswith('All ')


def test_a_run_starts_from_a_file_of_weights_alone(runs, tiny_config, tmp_path):
    tiny_config.train_cfg.max_epochs = 1
    tiny_config.val_cfg = tiny_config.val_dataloader = tiny_config.val_evaluator = None
    tiny_config.custom_hooks.append(dict(type='EMAHook', strict_load=True))
    runner = runs.train(tiny_config)
    weights = {k: v for k, v in runner.model.state_dict().items() if 'fpn' not in k}
    file = tmp_path / 'weights.pth'
    torch.save(weights, file)
    tiny_config.optim_wrapper.optimizer.lr = 0
    started = runs.train(tiny_config, tmp_path / 'next', load_from=str(file))
    log = runs.log_of(started)
    assert f' weights of the model come from {file}' in log
    assert 'These start anew: neck.fpn_convs' in log
    assert 'do not match exactly' not in log
    state = started.model.state_dict()
    for name in ('backbone.conv1.weight', 'bbox_head.retina_cls.weight'):
        assert torch.equal(state[name], weights[name])
