"""Checkpoints that do not fit are refused before their weights are loaded."""

import copy

import pytest
import torch
from mmengine.model import BaseTTAModel, MMDistributedDataParallel
from torch import nn

from focal_retinanet.cli.errors import UserError
from focal_retinanet.engine.checkpoints.fit import Misfit, check_fits, misfits


class Detector(nn.Module):
    test_step = None  # required by BaseTTAModel

    def __init__(self, classes=3, has_head=True):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        if has_head:
            self.bbox_head = nn.Linear(4, classes)


def state(**changes):
    return Detector(**changes).state_dict()


def test_misfits_have_both_sizes_and_sizes_come_first():
    model = Detector()
    assert misfits(model, state()) == []
    theirs = state(classes=5)
    del theirs['backbone.0.bias'], theirs['backbone.1.num_batches_tracked']
    theirs['neck.weight'] = torch.zeros(2)
    found = misfits(model, theirs)
    assert found == [
        Misfit('bbox_head.weight', (3, 4), (5, 4)),
        Misfit('bbox_head.bias', (3,), (5,)),
        Misfit('backbone.0.bias', (4,), None),
        Misfit('neck.weight', None, (2,)),
    ]
    assert [str(misfit) for misfit in found[1:]] == [
        'bbox_head.bias is (5,) in the file and (3,) in the model',
        'backbone.0.bias (4,) is only in the model',
        'neck.weight (2,) is only in the file',
    ]


def test_wrappers_and_prefixes_are_no_misfits():
    class Augmented(BaseTTAModel):
        merge_preds = None

    model = Detector()
    prefixed = {f'module.{name}': weight for name, weight in state().items()}
    assert misfits(model, prefixed) == []
    tta = Augmented(model)
    # The wrapper could only be built within a process group.
    ddp = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    nn.Module.__init__(ddp)
    ddp.module = tta
    for wrapped in (tta, ddp):
        assert misfits(wrapped, state()) == misfits(wrapped, prefixed) == []
        assert len(misfits(wrapped, state(classes=5))) == 2


def test_a_test_needs_the_head():
    model = Detector()
    check_fits(model, dict(state_dict=state()), 'a.pth')
    check_fits(model, state(), 'a.pth')
    # mmengine warns of other parts.
    check_fits(model, {k: v for k, v in state().items() if 'head' in k}, 'a.pth')
    meta = dict(dataset_meta=dict(classes=tuple('abcdefg')))
    with pytest.raises(UserError) as caught:
        check_fits(model, dict(state_dict=state(classes=7), meta=meta), 'a.pth')
    message = str(caught.value)
    assert message.startswith(
        'a.pth is of another model: bbox_head.weight is (7, 4) in'
    )
    assert 'trained on 7 classes (a, b, c, d, e, ...)' in message
    with pytest.raises(UserError, match=r'a\.pth has no weights of a head.*bbox_head'):
        check_fits(model, state(has_head=False), 'a.pth')
    backbone = Detector(has_head=False)
    check_fits(backbone, state(), 'a.pth')
    with pytest.raises(UserError, match='no weights of this model'):
        check_fits(backbone, dict(weight=torch.zeros(1)), 'a.pth')


def fewer_classes(cfg):
    """Return a config with the first three of the five classes."""
    cfg = copy.deepcopy(cfg)
    cfg.model.bbox_head.num_classes = 3
    classes = ('circle', 'square', 'triangle')
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.metainfo = dict(classes=classes)
    return cfg


@pytest.fixture
def short_config(tiny_config):
    tiny_config.train_cfg.max_epochs = 1
    tiny_config.val_cfg = tiny_config.val_dataloader = tiny_config.val_evaluator = None
    return tiny_config


def test_another_models_checkpoint_is_not_resumed(runs, short_config, tmp_path):
    runs.train(short_config)
    other = fewer_classes(short_config)
    file = tmp_path / 'work' / 'epoch_1.pth'
    with pytest.raises(UserError) as caught:
        runs.train(other, resume=True)
    message = str(caught.value)
    assert f'{file} cannot be resumed' in message
    assert 'bbox_head.retina_cls.weight is (45, ' in message
    assert 'and (27, ' in message
    assert 'trained on 5 classes (circle, square, triangle, star, cross)' in message
    assert 'the data to train on have 3' in message
    assert f'--weights {file}' in message
    # The advice in the message works.
    runner = runs.train(other, tmp_path / 'other', load_from=str(file))
    assert runner.epoch == 1


@pytest.mark.parametrize('ema', [False, True])
def test_names_count_and_the_average_is_not_touched(runs, short_config, tmp_path, ema):
    if ema:
        short_config.custom_hooks.append(dict(type='EMAHook', strict_load=True))
    runs.train(short_config)
    file = tmp_path / 'work' / 'epoch_1.pth'
    short_config.train_cfg.max_epochs = 2
    runs.train(short_config, resume=True)  # its own checkpoint fits
    short_config.model.bbox_head.stacked_convs = 2
    with pytest.raises(UserError, match=r'cls_convs\.1\..* is only in the model'):
        runs.train(short_config, resume=True, load_from=str(file))


def test_averaged_weights_are_not_resumed_as_trained_ones(runs, short_config, tmp_path):
    plain = copy.deepcopy(short_config)
    short_config.custom_hooks.append(dict(type='EMAHook'))
    runs.train(short_config)
    with pytest.raises(UserError, match=r'epoch_1\.pth is of .* EMAHook.* add --ema'):
        runs.train(plain, resume=True)


def test_weights_alone_are_not_resumed(runs, short_config, tmp_path):
    runner = runs.train(short_config)
    file = str(tmp_path / 'weights.pth')
    for held in (
        dict(state_dict=runner.model.state_dict(), meta=dict(epoch=1)),
        dict(runner.model.state_dict()),
    ):
        torch.save(held, file)
        with pytest.raises(UserError, match=r'no record of a training.*--weights'):
            runs.train(short_config, resume=True, load_from=file)


def test_other_names_of_as_many_classes_are_one_warning(runs, short_config, tmp_path):
    runs.train(short_config)
    file = tmp_path / 'work' / 'epoch_1.pth'
    short_config.train_cfg.max_epochs = 2
    log = runs.log_of(
        runs.train(short_config, tmp_path / 'same', resume=True, load_from=str(file))
    )
    assert 'was trained on' not in log
    held = torch.load(file)
    held['meta']['dataset_meta']['classes'] = ('circle', 'square', 'star', 'moon', 'x')
    torch.save(held, file)
    log = runs.log_of(runs.train(short_config, resume=True))
    assert log.count("classes ('circle', 'square', 'star', 'moon', 'x'), and the") == 1
    assert "config has ('circle', 'square', 'triangle', 'star', 'cross')" in log
    assert 'dataset metainfo from the resumed' not in log


def test_a_best_checkpoint_without_its_optimizer_warns(runs, tiny_config, tmp_path):
    tiny_config.default_hooks.checkpoint.save_best = 'coco/bbox_mAP'
    tiny_config.train_cfg.val_interval = 1
    tiny_config.train_cfg.max_epochs = 1
    runs.train(tiny_config)
    (best,) = (tmp_path / 'work').glob('best_*')
    tiny_config.train_cfg.max_epochs = 2
    runner = runs.train(tiny_config, resume=True, load_from=str(best))
    assert f'{best} has no state of the optimizer' in runs.log_of(runner)


def test_runners_test_and_validate_only_what_fits(runs, short_config, tmp_path):
    runs.train(short_config)
    file = str(tmp_path / 'work' / 'epoch_1.pth')
    runs.build(short_config, load_from=file).test()
    other = fewer_classes(short_config)
    with pytest.raises(UserError, match=r'is of another model.*\(45, .*5 classes'):
        runs.build(other, load_from=file).test()
    torch.save({'conv1.weight': torch.zeros(1)}, tmp_path / 'imagenet.pth')
    with pytest.raises(UserError, match=r'imagenet\.pth has no weights of a head'):
        runs.build(short_config, load_from=str(tmp_path / 'imagenet.pth')).test()
