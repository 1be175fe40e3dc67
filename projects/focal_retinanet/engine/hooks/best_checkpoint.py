"""The best checkpoint of a training: its file, its AP, and how to see its detections."""

import shlex
from pathlib import Path

import torch
from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import BaseLoop, Runner

from focal_retinanet.engine.hooks.plain_checkpoint import HISTORY
from focal_retinanet.evaluation.tables import as_text
from focal_retinanet.evaluation.training_log import METRICS
from focal_retinanet.registry import HOOKS


@HOOKS.register_module()
class BestCheckpointHook(Hook):
    """Keep the best checkpoint if its metric exists, and name it at the end.

    mmengine's ``CheckpointHook`` fails if ``save_best`` names a metric that no
    evaluator has, and if a model is validated without being trained.
    """

    # Before CheckpointHook.
    priority = 'LOW'

    def before_val(self, runner: Runner) -> None:
        if not isinstance(runner._train_loop, BaseLoop):
            for hook in _checkpoint_hooks(runner):
                hook.save_best = None

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        for hook in _checkpoint_hooks(runner):
            names = hook.key_indicators if hook.save_best else []
            missing = [name for name in names if name not in (metrics or {})]
            if metrics and missing and names != ['auto']:
                runner.logger.warning(
                    f'No checkpoint is kept as the best one: there is no {missing[0]} '
                    f'among {", ".join(metrics)}. Set default_hooks.checkpoint.save_best'
                )
                hook.save_best = None

    @master_only
    def after_train(self, runner: Runner) -> None:
        for hook in _checkpoint_hooks(runner):
            best = getattr(hook, 'best_ckpt_path', None)
            if best and Path(best).is_file():
                runner.logger.info('\n'.join(_summary(runner, best)))


def _summary(runner: Runner, best: str) -> list[str]:
    meta, metrics = _read(best)
    unit = 'epoch' if 'epoch_' in Path(best).name else 'iter'
    lines = [f'Best checkpoint: {best} ({unit} {meta[unit]})']
    row = {
        short: value
        for short, name in METRICS.items()
        for key, value in metrics.items()
        if key.endswith(f'/{name}')
    }
    if row:
        numbers = ['-' if value < 0 else f'{100 * value:.1f}' for value in row.values()]
        lines.append(as_text([list(row), numbers]))
    if runner.cfg.get('test_dataloader'):
        tool = ['python', 'tools/test.py', config_file(runner), best]
        command = shlex.join([*tool, '--show-dir', 'pictures'])
        lines.append(f'See its detections: {command}')
    return lines


def config_file(runner: Runner) -> str:
    """Return the config that the run has written, which includes its options."""
    name = runner.cfg.filename or ''
    written = Path(runner.work_dir) / Path(name).name
    return str(written) if written.is_file() else name


def _read(file: str) -> tuple[dict, dict[str, float]]:
    """Read the meta and the last validation of a checkpoint."""
    held = torch.load(file, map_location='cpu', weights_only=True, mmap=True)
    history = {
        name.removeprefix('val'): float(record['log'][-1])
        for name, record in held.get(HISTORY, {}).items()
        if name.startswith('val/') and len(record['log'])
    }
    return held['meta'], history


def _checkpoint_hooks(runner: Runner) -> list[CheckpointHook]:
    return [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
