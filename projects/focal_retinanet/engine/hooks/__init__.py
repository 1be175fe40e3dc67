"""Hooks of a run."""

from focal_retinanet.engine.hooks.anchor_reach import AnchorReachHook
from focal_retinanet.engine.hooks.best_checkpoint import BestCheckpointHook
from focal_retinanet.engine.hooks.early_stopping import EarlyStoppingHook
from focal_retinanet.engine.hooks.iteration_seed import IterationSeedHook
from focal_retinanet.engine.hooks.loss_share import LossShareHook
from focal_retinanet.engine.hooks.missed_validation import MissedValidationHook
from focal_retinanet.engine.hooks.nothing_found import NothingFoundHook
from focal_retinanet.engine.hooks.plain_checkpoint import PlainCheckpointHook
from focal_retinanet.engine.hooks.visualization import DetVisualizationHook

__all__ = [
    'AnchorReachHook',
    'BestCheckpointHook',
    'DetVisualizationHook',
    'EarlyStoppingHook',
    'IterationSeedHook',
    'LossShareHook',
    'MissedValidationHook',
    'NothingFoundHook',
    'PlainCheckpointHook',
]
