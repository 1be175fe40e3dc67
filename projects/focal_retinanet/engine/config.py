"""From a tool's arguments to the config of a run, with mmdet's precedence."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import RUNNERS

from focal_retinanet.config.ablation_table import load_with_options
from focal_retinanet.engine.checkpoints.load import enforce_safe_loading
from focal_retinanet.engine.distributed import check_launcher
from focal_retinanet.engine.runner import Runner
from focal_retinanet.engine.work_dir import run_folder


def load_config(
    args: argparse.Namespace, options: Mapping[str, Any] | None = None
) -> Config:
    """Read the config file and apply the shared arguments.

    Args:
        args: the shared arguments.
        options: settings that other arguments stand for, by their keys; they are
            stronger than ``--cfg-options``.

    Raises:
        FileNotFoundError: there is no such config.
        UserError: there is no such row, a table is named without one, no one reads
            an option, or no launcher has started this process.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    enforce_safe_loading(allow_unsafe=args.unsafe_checkpoint)
    cfg = load_with_options(
        args.config,
        {'launcher': args.launcher, **(args.cfg_options or {}), **(options or {})},
    )
    check_launcher(cfg.launcher)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif 'work_dir' not in (args.cfg_options or {}) and (
        own := run_folder(args.config)
    ):
        cfg.work_dir = own
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(cfg.filename).stem)
    return cfg


def build_runner(cfg: Config):
    """The runner of a config: ours, or the one that its ``runner_type`` names."""
    if 'runner_type' in cfg:
        return RUNNERS.build(cfg)
    return Runner.from_cfg(cfg)
