"""Shares of the classification loss by kind of anchor, during training."""

from mmengine.hooks import Hook, LoggerHook
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner

from focal_retinanet.models.retina_head import RetinaHead
from focal_retinanet.registry import HOOKS


@HOOKS.register_module()
class LossShareHook(Hook):
    """Log the loss shares of positives, easy and hard negatives.

    ``pos_share``, ``easy_neg_share`` and ``hard_neg_share`` lie between 0 and 1, sum
    to 1, and describe this process's batch. They show the imbalance that the focal
    loss addresses (section 3). Every ``interval`` iterations they at most double the
    time of the fused loss. Heads other than
    :class:`focal_retinanet.models.RetinaHead` are not monitored.

    Args:
        interval: Iterations between two logs; by default, the logger's interval.
    """

    def __init__(self, interval: int | None = None) -> None:
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        if self.interval is None:
            logs = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
            self.interval = logs[0].interval if logs else 50

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None
    ) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        head = getattr(model, 'bbox_head', None)
        if isinstance(head, RetinaHead):
            # The logger, too, counts within the epoch, and logs at its end.
            is_last = isinstance(
                runner.train_loop, EpochBasedTrainLoop
            ) and self.end_of_epoch(runner.train_dataloader, batch_idx)
            head.monitors_loss = is_last or (batch_idx + 1) % self.interval == 0
