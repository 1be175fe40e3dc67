"""A number that no run can use ends it before it starts."""

import pytest
from mmengine.config import Config

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.check_values import check_values


@pytest.mark.parametrize(
    ('key', 'values'),
    [
        ('train_cfg.val_interval', [0, 'abc', None, True]),
        ('train_cfg.max_epochs', [0, -3, 1.5, '']),
        ('train_dataloader.batch_size', [0, 'abc']),
        ('val_dataloader.num_workers', [-1]),
        ('optim_wrapper.accumulative_counts', [0]),
        ('optim_wrapper.optimizer.lr', [0, -0.1, 'abc', float('nan'), None]),
        ('optim_wrapper.clip_grad.max_norm', [0]),
        ('default_hooks.checkpoint.interval', ['abc']),
        ('default_hooks.logger.interval', [0]),
        ('model.bbox_head.num_classes', ['abc', 0]),
        ('randomness.seed', [-1, 1.5, 'abc', 2**32]),
    ],
)
def test_what_no_run_can_use_is_named(tiny_config, key, values):
    for value in values:
        cfg = Config(tiny_config.to_dict())
        cfg.merge_from_dict({key: value})
        with pytest.raises(UserError, match=f'{key} is {value!r}; it must be'):
            check_values(cfg)


def test_what_runs_use_passes(tiny_config):
    tiny_config.merge_from_dict(
        {
            'randomness.seed': None,
            'train_cfg.max_epochs': 3,
            'default_hooks.checkpoint.interval': -1,  # no checkpoint
            'optim_wrapper.clip_grad.max_norm': float('inf'),  # only logs the norm
            'val_dataloader': None,
        }
    )
    check_values(tiny_config)
    check_values(Config(dict(model=dict(type='ATSS'))))
