"""Hooks of a run."""

from focal_retinanet.engine.hooks.best_checkpoint import BestCheckpointHook
from focal_retinanet.engine.hooks.early_stopping import (
    EarlyStoppingHook,
    MissedValidationHook,
)
from focal_retinanet.engine.hooks.iteration_seed import IterationSeedHook
from focal_retinanet.engine.hooks.loss_share import LossShareHook
from focal_retinanet.engine.hooks.plain_checkpoint import PlainCheckpointHook
from focal_retinanet.engine.hooks.visualization import DetVisualizationHook

__all__ = [
    'BestCheckpointHook',
    'DetVisualizationHook',
    'EarlyStoppingHook',
    'IterationSeedHook',
    'LossShareHook',
    'MissedValidationHook',
    'PlainCheckpointHook',
]
