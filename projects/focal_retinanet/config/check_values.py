"""Numbers of a run's config that would end it late, or would train nothing."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from focal_retinanet.cli.errors import UserError

# Lowest whole number of each key. With an interval of -1, no checkpoint is saved.
_WHOLE = {
    'train_cfg.max_epochs': 1,
    'train_cfg.max_iters': 1,
    'train_cfg.val_interval': 1,
    'train_dataloader.batch_size': 1,
    'train_dataloader.num_workers': 0,
    'val_dataloader.batch_size': 1,
    'val_dataloader.num_workers': 0,
    'test_dataloader.batch_size': 1,
    'test_dataloader.num_workers': 0,
    'optim_wrapper.accumulative_counts': 1,
    'default_hooks.checkpoint.interval': -1,
    'default_hooks.logger.interval': 1,
    'model.bbox_head.num_classes': 1,
    'randomness.seed': 0,
}
_ABOVE_0 = ('optim_wrapper.optimizer.lr', 'optim_wrapper.clip_grad.max_norm')
_MAY_BE_NONE = ('randomness.seed', 'train_cfg.max_epochs', 'train_cfg.max_iters')
_ADVICE = {
    'train_cfg.val_interval': '; to train without validation, set val_dataloader, '
    'val_cfg and val_evaluator to None',
}
_LARGEST_SEED = 2**32 - 1


def check_values(cfg: Config) -> None:
    """Check the numbers that mmengine uses without a check, some after an epoch.

    Args:
        cfg: Config of a run.

    Raises:
        UserError: A number is of another kind or out of range.
    """
    content = cfg.to_dict()
    for key, lowest in _WHOLE.items():
        for value in _values(content, key):
            if value is None and key in _MAY_BE_NONE:
                continue
            if type(value) is not int or value < lowest:
                raise UserError(
                    f'{key} is {value!r}; it must be a whole number of at least '
                    f'{lowest}{_ADVICE.get(key, "")}'
                )
    for seed in _values(content, 'randomness.seed'):
        if seed is not None and seed > _LARGEST_SEED:
            raise UserError(f'randomness.seed is {seed}; it must be below 2**32')
    for key in _ABOVE_0:
        for value in _values(content, key):
            if type(value) not in (int, float) or not value > 0:
                raise UserError(f'{key} is {value!r}; it must be a number above 0')


def _values(content: Mapping[str, Any], key: str) -> Iterator[Any]:
    """Yield the value of a dotted key, if the config has it."""
    value: Any = content
    for part in key.split('.'):
        if not isinstance(value, Mapping) or part not in value:
            return
        value = value[part]
    yield value
