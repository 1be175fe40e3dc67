"""Around a run: config, runner, hooks, checkpoints, errors, the console."""

from focal_retinanet.engine.iteration_seed_hook import IterationSeedHook
from focal_retinanet.engine.loss_share_hook import LossShareHook
from focal_retinanet.engine.plain_checkpoint_hook import PlainCheckpointHook
from focal_retinanet.engine.visualization_hook import DetVisualizationHook

__all__ = [
    'DetVisualizationHook',
    'IterationSeedHook',
    'LossShareHook',
    'PlainCheckpointHook',
]
