"""Early stopping that continues exactly in a resumed run."""

import math

from mmengine.hooks import EarlyStoppingHook as MMEngineEarlyStoppingHook
from mmengine.runner import BaseLoop, Runner

from focal_retinanet.registry import HOOKS

#: Name of the hook's state in a checkpoint.
STATE = 'early_stopping'


@HOOKS.register_module()
class EarlyStoppingHook(MMEngineEarlyStoppingHook):
    """mmengine's hook, with its state in the checkpoints.

    mmengine's hook starts to count again in a resumed run. Here, checkpoints hold the
    best score and the number of validations since.

    Args:
        *args, **kwargs: Arguments of mmengine's hook; ``min_delta`` is in units of the
            metric, and mmengine's default of 0.1 is 10 points of AP.
    """

    # Before CheckpointHook, which saves again if a validation is the best one.
    priority = 'LOW'

    def before_run(self, runner: Runner) -> None:
        if _is_training(runner):  # mmengine's builds the training of any run
            super().before_run(runner)

    def before_train(self, runner: Runner) -> None:
        state = runner.message_hub.runtime_info.get(STATE)
        if state is not None:
            self.best_score, self.wait_count = state['best_score'], state['wait_count']
            stops = state['stops']
            # Of checkpoints before this was noted, another patience changes nothing.
            if stops and self.wait_count >= state.get('patience', math.inf):
                stops = self.wait_count >= self.patience
            runner.train_loop.stop_training |= stops
            if stops:
                runner.logger.info(
                    f'The run had stopped early, after {self.wait_count} validations '
                    f'without a better {self.monitor} than {self.best_score:.3f}, and '
                    'does not go on: a larger patience lets it'
                )

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        if not _is_training(runner):
            return
        super().after_val_epoch(runner, metrics)
        if self.wait_count >= self.patience:
            runner.logger.info(
                f'Training stops early: no better {self.monitor} than '
                f'{self.best_score:.3f} in {self.wait_count} validations'
            )
        runner.message_hub.update_info(
            STATE,
            dict(
                best_score=self.best_score,
                wait_count=self.wait_count,
                stops=runner.train_loop.stop_training,
                patience=self.patience,
                iter=runner.iter,
            ),
        )


def _is_training(runner: Runner) -> bool:
    return isinstance(runner._train_loop, BaseLoop)
