"""A validation that a stopped run has not done is done when the run is resumed."""

from pathlib import Path

from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner

from focal_retinanet.cli.errors import UserError
from focal_retinanet.engine.hooks.early_stopping import STATE, EarlyStoppingHook
from focal_retinanet.evaluation.work_dirs import SCALARS, read_scalars
from focal_retinanet.registry import HOOKS


@HOOKS.register_module()
class MissedValidationHook(Hook):
    """Validate at the start of a resumed run if its checkpoint was not validated.

    A checkpoint is saved before its validation, and again afterwards only if it is the
    best one. mmengine skips the validation of a checkpoint that a run resumes from, so
    a run that was stopped there would have no AP, or another best checkpoint than a run
    that never stopped.

    The log of the work directory says what was validated. With early stopping, it is
    the state of :class:`EarlyStoppingHook` in the checkpoint, which the run needs.
    """

    # After all others are ready to train, the CheckpointHook among them, but before
    # PlainCheckpointHook, which is the last one.
    priority = 95

    def before_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        if runner.val_loop is None or not _is_due(loop):
            return
        is_done = [_is_done(runner)]
        broadcast_object_list(is_done)  # all processes validate, or none
        if not is_done[0]:
            runner.logger.info(
                'The checkpoint has no record of its validation: it is validated now'
            )
            runner.val_loop.run()


def _is_done(runner: Runner) -> bool:
    loop = runner.train_loop
    if any(isinstance(hook, EarlyStoppingHook) for hook in runner.hooks):
        return runner.message_hub.runtime_info.get(STATE, {}).get('iter') == loop.iter
    try:
        return _is_logged(Path(runner.work_dir), loop)
    except UserError:  # no log that can be read
        return False


def _is_logged(work_dir: Path, loop: BaseLoop) -> bool:
    """Whether the logs have the validation that follows the iterations that are done.

    Raises:
        UserError: A log cannot be read.
    """
    is_by_epoch = isinstance(loop, EpochBasedTrainLoop)
    step = loop.epoch if is_by_epoch else loop.iter
    is_logged = False
    for file in sorted(work_dir.glob(SCALARS)):
        for line in read_scalars(file):
            if 'loss' not in line and 'lr' not in line:
                is_logged |= line['step'] == step
            elif line['step'] <= loop.iter:  # trained anew since then
                is_logged = False
    return is_logged


def _is_due(loop: BaseLoop) -> bool:
    """Whether a validation follows the iterations that are done."""
    step, last = loop.iter, loop.max_iters
    if isinstance(loop, EpochBasedTrainLoop):
        if loop.iter != loop.epoch * len(loop.dataloader):  # within an epoch
            return False
        step, last = loop.epoch, loop.max_epochs
    is_time = step % loop.val_interval == 0 or step == last
    return step > 0 and step >= loop.val_begin and is_time
