"""From a tool's arguments to the config of a run, with mmdet's precedence."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import RUNNERS

from focal_retinanet.engine.cfg_options import add_cfg_options
from focal_retinanet.engine.checkpoint import enforce_safe_loading
from focal_retinanet.engine.distributed import check_launcher
from focal_retinanet.engine.runner import Runner
from focal_retinanet.engine.table import load_with_options
from focal_retinanet.engine.work_dir import run_folder


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that training and testing share, named as mmdet's are."""
    parser.add_argument(
        'config', help='config file, or TABLE.py:ROW for a row of configs/ablations'
    )
    parser.add_argument(
        '--work-dir',
        help='folder of logs, checkpoints and results (default: '
        'work_dirs/NAME-OF-THE-CONFIG)',
    )
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher (default: none, one process)',
    )
    parser.add_argument(
        '--unsafe-checkpoint',
        action='store_true',
        help='load any checkpoint file, running whatever code it holds; only for '
        'files that you trust',
    )
    # torch.distributed.launch passes it.
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS
    )


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
