"""Hooks of a run."""

from focal_retinanet.engine.hooks.iteration_seed import IterationSeedHook
from focal_retinanet.engine.hooks.loss_share import LossShareHook
from focal_retinanet.engine.hooks.plain_checkpoint import PlainCheckpointHook
from focal_retinanet.engine.hooks.visualization import DetVisualizationHook

__all__ = [
    'DetVisualizationHook',
    'IterationSeedHook',
    'LossShareHook',
    'PlainCheckpointHook',
]
