"""Around a run: config, runner, hooks, checkpoints, errors, the console."""

from focal_retinanet.engine.amp import AmpOptimWrapper
from focal_retinanet.engine.epoch_seed_hook import EpochSeedHook
from focal_retinanet.engine.loss_share_hook import LossShareHook

__all__ = ['AmpOptimWrapper', 'EpochSeedHook', 'LossShareHook']
