"""Around a run: config, runner, hooks, checkpoints, errors, the console."""

from focal_retinanet.engine.amp import AmpOptimWrapper
from focal_retinanet.engine.iteration_seed_hook import IterationSeedHook
from focal_retinanet.engine.loss_share_hook import LossShareHook
from focal_retinanet.engine.plain_checkpoint_hook import PlainCheckpointHook

__all__ = [
    'AmpOptimWrapper',
    'IterationSeedHook',
    'LossShareHook',
    'PlainCheckpointHook',
]
