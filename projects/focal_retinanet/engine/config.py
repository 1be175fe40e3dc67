"""From a tool's arguments to a run's config and runner."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import RUNNERS

from focal_retinanet.cli.console import warn
from focal_retinanet.cli.errors import UserError
from focal_retinanet.cli.output_dir import check_is_folder
from focal_retinanet.config.ablation_table import load_with_options
from focal_retinanet.config.check_values import check_values
from focal_retinanet.config.unread_keys import describe_unread_keys
from focal_retinanet.engine.checkpoints.load import enforce_safe_loading
from focal_retinanet.engine.distributed import check_launcher
from focal_retinanet.engine.runner import Runner
from focal_retinanet.engine.work_dir import check_keeps_config, run_folder

# mmengine takes all of them or none.
_TOGETHER = (
    ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    ('val_dataloader', 'val_cfg', 'val_evaluator'),
    ('test_dataloader', 'test_cfg', 'test_evaluator'),
)


def load_config(
    args: argparse.Namespace, options: Mapping[str, Any] | None = None
) -> Config:
    """Load the config file and apply the arguments that all tools share.

    Args:
        args: Shared arguments.
        options: Values by their keys that override ``--cfg-options``.

    Raises:
        FileNotFoundError: The config does not exist.
        UserError: The row does not exist, a table is named without a row, no one reads
            an option, the named launcher has not started this process, or the work
            directory is below a file, has no name, or is the folder of the config, or
            a number is out of range.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    enforce_safe_loading(allow_unsafe=args.unsafe_checkpoint)
    cfg = load_with_options(
        args.config,
        {'launcher': args.launcher, **(args.cfg_options or {}), **(options or {})},
    )
    for line in describe_unread_keys(cfg):
        warn(line)
    check_launcher(cfg.launcher)
    if args.work_dir is not None:
        if 'work_dir' in (args.cfg_options or {}):
            raise UserError(
                f'--cfg-options work_dir: --work-dir {args.work_dir} sets it'
            )
        cfg.work_dir = args.work_dir
    elif 'work_dir' not in (args.cfg_options or {}) and (
        own := run_folder(args.config)
    ):
        cfg.work_dir = own
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(cfg.filename).stem)
    if not str(cfg.work_dir).strip():
        raise UserError('--work-dir is empty; name a folder')
    check_is_folder(cfg.work_dir, '--work-dir')
    check_keeps_config(cfg.filename, cfg.work_dir)
    check_values(cfg)
    return cfg


def build_runner(cfg: Config):
    """Build this package's runner, or the one that ``runner_type`` names.

    Raises:
        UserError: The config has only some of the settings that need each other.
    """
    for needed in _TOGETHER:
        absent = [key for key in needed if cfg.get(key) is None]
        if absent and len(absent) < len(needed):
            given = next(key for key in needed if key not in absent)
            raise UserError(
                f'{cfg.filename} has {given} but no {" and no ".join(absent)}: set '
                f'all of {", ".join(needed)}, or all of them to None'
            )
    if 'runner_type' in cfg:
        return RUNNERS.build(cfg)
    return Runner.from_cfg(cfg)
