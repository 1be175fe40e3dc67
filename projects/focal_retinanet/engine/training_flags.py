"""Changes of a config that flags of ``tools/train.py`` stand for."""

import math

from mmengine.config import Config

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.metric_configs import type_name

#: The metric that the best checkpoint and early stopping go by, unless a config says.
BEST = 'coco/bbox_mAP'
# AP is rounded to three digits; half of the last one is a difference.
_MIN_DELTA = 0.0005


def scale_lr(cfg: Config) -> None:
    """Let mmengine scale the learning rate to the batch size of this run.

    Raises:
        UserError: The config does not say for how many images its rate is.
    """
    if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
        raise UserError(
            '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in '
            f'{cfg.filename}'
        )
    cfg.auto_scale_lr.enable = True


def stop_early(cfg: Config, patience: int) -> None:
    """Stop a training after so many validations without a better AP.

    The metric is that of the best checkpoint. A hook that the config has already gets
    the patience.

    Args:
        cfg: Config of a run, is changed.
        patience: Number of validations.

    Raises:
        UserError: The config has no validation, or too few of them to stop earlier.
    """
    if not cfg.get('val_dataloader'):
        raise UserError(
            f'--early-stop {patience}: {cfg.filename} has no validation '
            '(val_dataloader)'
        )
    train_cfg = cfg.get('train_cfg') or {}
    length = train_cfg.get('max_epochs') or train_cfg.get('max_iters') or 0
    validations = math.ceil(length / train_cfg.get('val_interval', 1))
    if length and validations <= patience:
        raise UserError(
            f'--early-stop {patience} cannot stop this training, as it validates '
            f'{validations} times: validate more often, by --cfg-options '
            f'train_cfg.val_interval={max(1, length // (4 * patience))}'
        )
    hooks = list(cfg.get('custom_hooks') or [])
    own = [hook for hook in hooks if type_name(hook) == 'EarlyStoppingHook']
    if own:
        own[0]['patience'] = patience
    else:
        checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
        best = checkpoint.get('save_best')
        rule = checkpoint.get('rule')
        if not isinstance(best, str) or best == 'auto':
            best, rule = BEST, 'greater'
        hooks.append(
            dict(
                type='focal_retinanet.EarlyStoppingHook',
                monitor=best,
                rule=rule,
                patience=patience,
                min_delta=_MIN_DELTA,
            )
        )
    cfg.custom_hooks = hooks


def average_weights(cfg: Config) -> None:
    """Validate and save an exponential moving average (EMA) of the weights.

    It is mmdet's of YOLOX, which follows the weights closely in the first thousands
    of iterations. A hook that the config has already stays.

    Args:
        cfg: Config of a run, is changed.
    """
    hooks = list(cfg.get('custom_hooks') or [])
    if not any(type_name(hook) == 'EMAHook' for hook in hooks):
        ema = dict(type='EMAHook', ema_type='ExpMomentumEMA', update_buffers=True)
        cfg.custom_hooks = [*hooks, ema]
