"""A line at the start of training if anchors do not reach the objects."""

import shlex

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from focal_retinanet.anchors.sample import measure_reach
from focal_retinanet.engine.checkpoints.fit import unwrapped
from focal_retinanet.engine.hooks.best_checkpoint import config_file
from focal_retinanet.registry import HOOKS


@HOOKS.register_module()
class AnchorReachHook(Hook):
    """Warn if objects of a sample of the training data get no anchor.

    It takes at most about two seconds and does not change the random state.
    """

    @master_only
    def before_train(self, runner: Runner) -> None:
        if runner.iter > 0:  # resumed
            return
        reach = measure_reach(unwrapped(runner.model), runner.train_dataloader.dataset)
        line = reach and reach.describe(shlex.quote(config_file(runner)))
        if line:
            runner.logger.warning(line)
