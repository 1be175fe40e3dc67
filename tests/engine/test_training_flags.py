"""Flags of training become settings of the config."""

import pytest
from mmengine.config import Config

from focal_retinanet.cli.errors import UserError
from focal_retinanet.engine.low_ap import learning_rate_cause
from focal_retinanet.engine.training_flags import average_weights, scale_lr, stop_early


def test_early_stopping_watches_the_metric_of_the_best_checkpoint(tiny_config):
    tiny_config.train_cfg.update(max_epochs=6, val_interval=1)
    stop_early(tiny_config, 3)
    *others, stopping = tiny_config.custom_hooks
    assert (stopping.monitor, stopping.rule) == ('coco/bbox_mAP', 'greater')
    assert stopping.patience == 3
    stop_early(tiny_config, 5)  # once, whoever asks
    assert tiny_config.custom_hooks == [*others, dict(stopping, patience=5)]

    checkpoint = dict(save_best='voc/mAP', rule=None)
    cfg = Config(
        dict(
            val_dataloader=dict(batch_size=1), default_hooks=dict(checkpoint=checkpoint)
        )
    )
    stop_early(cfg, 1)
    assert cfg.custom_hooks[0].monitor == 'voc/mAP'


def test_too_few_validations_to_stop_early(tiny_config):
    tiny_config.train_cfg.update(max_epochs=8, val_interval=4)
    with pytest.raises(
        UserError, match=r'validates 2 times: .* train_cfg.val_interval=1'
    ):
        stop_early(tiny_config, 2)
    stop_early(tiny_config, 1)


def test_what_a_flag_needs():
    cfg = Config(dict(val_dataloader=None), filename=None)
    with pytest.raises(UserError, match=r'--early-stop 2: .* has no validation'):
        stop_early(cfg, 2)
    for config in (cfg, Config(dict(auto_scale_lr=None))):
        with pytest.raises(UserError, match='--auto-scale-lr needs auto_scale_lr='):
            scale_lr(config)


@pytest.mark.parametrize(('base', 'factor'), [(16, 1), (64, 0.25)])
def test_the_scaled_learning_rate_counts_accumulated_images(
    runs, tiny_config, base, factor
):
    tiny_config.optim_wrapper.accumulative_counts = 4  # of 4 images
    tiny_config.auto_scale_lr = dict(enable=False, base_batch_size=base)
    cause = learning_rate_cause(tiny_config, world_size=1)
    scale_lr(tiny_config)
    runner = runs.build(tiny_config)
    optim_wrapper = runner.build_optim_wrapper(tiny_config.optim_wrapper)
    lr = tiny_config.optim_wrapper.optimizer.lr
    runner.scale_lr(optim_wrapper, tiny_config.auto_scale_lr)
    assert optim_wrapper.param_groups[0]['lr'] == pytest.approx(lr * factor)
    assert (cause is None) == (factor == 1)
    if cause is not None:
        assert f'makes it {lr * factor:g}' in cause


def test_a_config_keeps_an_average_of_its_own():
    cfg = Config(dict(custom_hooks=[dict(type='mmengine.EMAHook', momentum=0.5)]))
    average_weights(cfg)
    assert cfg.custom_hooks == [dict(type='mmengine.EMAHook', momentum=0.5)]
    cfg = Config(dict())
    average_weights(cfg)
    assert cfg.custom_hooks[0].ema_type == 'ExpMomentumEMA'
