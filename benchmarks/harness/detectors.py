"""A config's detector, and its stock twin: mmdet's components, the same weights."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from torch import nn

from focal_retinanet.acceleration.accelerate import accelerate
from focal_retinanet.cli.arguments import add_cfg_options
from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.ablation_table import load_with_options
from focal_retinanet.config.cfg_options import merge_options
from focal_retinanet.engine.checkpoints.load import enforce_safe_loading
from focal_retinanet.models.losses import with_use_sigmoid

# Components of ours that mmdet has under the same names.
_STOCK = ('RetinaHead', 'AnchorGenerator', 'FocalLoss', 'MaxIoUAssigner')


@dataclass
class Detectors:
    """Ours and the stock detector, with the same weights, and our config."""

    ours: nn.Module
    stock: nn.Module
    cfg: Config

    @property
    def num_classes(self) -> int:
        return self.cfg.model.bbox_head.num_classes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that :func:`build_detectors` reads."""
    parser.add_argument('--config', required=True, help='config file')
    add_cfg_options(parser, purpose='settings of our model only')
    add_cfg_options(parser, '--shared-options', 'settings of all models')
    parser.add_argument(
        '--random-weights',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='leave out the pretrained weights that the config names',
    )


def build_detectors(
    args: argparse.Namespace, checkpoint: str | None = None, unsafe: bool = False
) -> Detectors:
    """Build our detector and the stock one on the device.

    Args:
        args: The flags of :func:`add_arguments`, and the device.
        checkpoint: File of the weights; those of the config's ``init_cfg`` if None.
        unsafe: Whether to load a checkpoint that may run code.

    Raises:
        UserError: The two do not have the same weights, or an option has no effect.
    """
    enforce_safe_loading(unsafe)
    cfg = load_with_options(args.config, args.shared_options, '--shared-options')
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    if args.random_weights:
        cfg.model = _change(cfg.model, _without_pretrained)
    stock_cfg = stock_config(cfg.model)
    merge_options(cfg, args.cfg_options)

    ours, stock = MODELS.build(cfg.model), MODELS.build(stock_cfg)
    ours.init_weights()
    if checkpoint is not None:
        load_checkpoint(ours, checkpoint, map_location='cpu')
    try:
        stock.load_state_dict(ours.state_dict())
    except RuntimeError as error:
        raise UserError(
            'our model and the stock one do not have the same weights; name what '
            f'changes the architecture by --shared-options ({error})'
        ) from error
    accelerate(ours, cfg, 'silent', args.device)
    return Detectors(ours.to(args.device), stock.to(args.device), cfg)


def stock_config(config: Any) -> Any:
    """Return a copy in which mmdet's components replace ours of the same names.

    Args:
        config: Config of a model or of a part; dicts and lists at any depth.
    """
    return _change(config, _stock_component)


def _stock_component(config: Mapping) -> Mapping:
    scope, _, name = str(config.get('type')).rpartition('.')
    if scope == 'focal_retinanet' and name in _STOCK:
        if name == 'FocalLoss':
            config = type(config)(with_use_sigmoid(config))
        config['type'] = f'mmdet.{name}'
        config.pop('pi', None)  # which only our head has
    return config


def _without_pretrained(config: Mapping) -> Mapping | None:
    return None if config.get('type') == 'Pretrained' else config


def _change(config: Any, change: Callable[[Mapping], Any]) -> Any:
    """Return a copy of a config in which ``change`` replaces each dict."""
    if isinstance(config, list | tuple):
        return type(config)(_change(item, change) for item in config)
    if isinstance(config, Mapping):  # a ConfigDict stays one
        return change(
            type(config)({key: _change(item, change) for key, item in config.items()})
        )
    return config
