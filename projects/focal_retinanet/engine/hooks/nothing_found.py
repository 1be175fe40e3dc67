"""The likely cause if a validation or a test finds nothing or nearly nothing."""

import re
import shlex

from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import Dataset

from focal_retinanet.anchors.sample import measure_reach
from focal_retinanet.data.random_state import kept_random_state
from focal_retinanet.engine import low_ap
from focal_retinanet.engine.checkpoints.fit import unwrapped
from focal_retinanet.engine.hooks.best_checkpoint import config_file
from focal_retinanet.registry import HOOKS

# AP50 below which nearly nothing is found.
_NEARLY_NOTHING = 0.01


@HOOKS.register_module()
class NothingFoundHook(Hook):
    """Warn if AP50 is below 0.01, with causes found in model, data and config.

    Later validations do not repeat a cause.
    """

    # Before an EMAHook restores the weights that were not evaluated.
    priority = 'ABOVE_NORMAL'

    def __init__(self) -> None:
        self._said: set[str] = set()

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self._look(runner, metrics, runner.val_dataloader.dataset)

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self._look(runner, metrics, runner.test_dataloader.dataset)

    @master_only
    def _look(self, runner: Runner, metrics: dict | None, dataset: Dataset) -> None:
        ap50 = [v for k, v in (metrics or {}).items() if k.endswith('bbox_mAP_50')]
        # It is -1 without objects.
        if not ap50 or not all(0 <= value < _NEARLY_NOTHING for value in ap50):
            return
        with kept_random_state():
            causes = likely_causes(runner, unwrapped(runner.model), dataset)
        new = [cause for cause in causes if _kind(cause) not in self._said]
        self._said.update(map(_kind, causes))
        if new:
            much = 'Nothing' if max(ap50) == 0 else 'Nearly nothing'
            lines = [f'{much} is found (AP50 {100 * max(ap50):.1f}). Likely causes:']
            runner.logger.warning('\n  - '.join([*lines, *new]))


def likely_causes(runner: Runner, model: nn.Module, dataset: Dataset) -> list[str]:
    """Return the causes with signs of them, the most likely one first.

    Args:
        runner: Runner of the training, validation or test.
        model: Evaluated detector.
        dataset: Data set of the evaluation.
    """
    cfg, is_training = runner.cfg, isinstance(runner._train_loop, BaseLoop)
    broken = low_ap.weights_cause(model, cfg)
    lr = low_ap.learning_rate_cause(cfg, get_world_size()) if is_training else None
    if broken is not None:
        return [cause for cause in (broken, lr) if cause]
    causes = []
    if is_training:
        trained = runner.train_dataloader.dataset
        classes = [_classes_of(data) for data in (trained, dataset)]
        causes.append(low_ap.classes_cause(*classes))
    # Wrappers may read what the data set gives in another way.
    found = low_ap.look_at(runner.model, dataset)
    if found is not None:
        causes += [low_ap.labels_cause(found), low_ap.scores_cause(found)]
    if is_training:
        causes.append(lr)
        reach = measure_reach(model, trained)
        if reach is not None:
            causes.append(reach.describe(shlex.quote(config_file(runner))))
        causes.append(low_ap.iterations_cause(cfg, runner.iter))
    causes = [cause for cause in causes if cause is not None]
    return causes or [
        'none of the known ones (broken weights, scores, classes, learning rate, '
        'anchors): look at the boxes by tools/browse_dataset.py, and at the loss by '
        'tools/plot_curves.py'
    ]


def _classes_of(dataset: Dataset) -> tuple[str, ...]:
    return tuple((getattr(dataset, 'metainfo', None) or {}).get('classes') or ())


def _kind(cause: str) -> str:
    """Return a cause without its numbers, which differ in each validation."""
    return re.sub(r'\d[\d.e+-]*', '#', cause)
