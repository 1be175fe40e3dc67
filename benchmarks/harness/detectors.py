"""A config's detector and its stock equivalent, with the same weights."""

import argparse
import copy
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from torch import nn

from focal_retinanet.acceleration.accelerate import accelerate
from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.ablation_table import load_with_options
from focal_retinanet.config.cfg_options import merge_options
from focal_retinanet.engine.checkpoints.load import enforce_safe_loading
from harness.stock import stock_config


def load_configs(args: argparse.Namespace) -> tuple[Config, Config]:
    """Our config, and that of the stock model.

    ``--shared-options`` are part of both, ``--cfg-options`` of the first alone.

    Raises:
        UserError: no one reads an option.
    """
    cfg = load_with_options(args.config, args.shared_options, '--shared-options')
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    if args.random_weights:
        cfg.model = _without_pretrained(cfg.model)
    stock = copy.deepcopy(cfg)
    stock.model = stock_config(stock.model)
    merge_options(cfg, args.cfg_options)
    return cfg, stock


def build_detectors(
    args: argparse.Namespace, checkpoint: str | None = None
) -> tuple[nn.Module, nn.Module, Config]:
    """Our detector and the stock one, on the device, and our config.

    Raises:
        UserError: the two do not have the same weights.
    """
    enforce_safe_loading(getattr(args, 'unsafe_checkpoint', False))
    cfg, stock_cfg = load_configs(args)
    ours = MODELS.build(cfg.model)
    stock = MODELS.build(stock_cfg.model)
    ours.init_weights()
    if checkpoint is not None:
        load_checkpoint(ours, checkpoint, map_location='cpu')
    try:
        stock.load_state_dict(ours.state_dict())
    except RuntimeError as error:
        raise UserError(
            'our model and the stock one do not have the same weights; give what '
            f'changes the architecture as --shared-options ({error})'
        ) from error
    accelerate(ours, cfg, logger='silent')
    device = torch.device(args.device)
    return ours.to(device), stock.to(device), cfg


def is_resnet50(cfg: Config) -> bool:
    return cfg.model.backbone.type == 'ResNet' and cfg.model.backbone.depth == 50


def _without_pretrained(config: Any) -> Any:
    """A copy that starts from random weights, not from a file."""
    if isinstance(config, list | tuple):
        return type(config)(_without_pretrained(item) for item in config)
    if not isinstance(config, dict):
        return config
    if config.get('type') == 'Pretrained':
        return None
    return type(config)({k: _without_pretrained(v) for k, v in config.items()})
