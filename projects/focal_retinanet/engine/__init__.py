"""Around a run: config, runner, hooks, checkpoints, errors, the console."""

from focal_retinanet.engine.amp import AmpOptimWrapper
from focal_retinanet.engine.epoch_seed_hook import EpochSeedHook

__all__ = ['AmpOptimWrapper', 'EpochSeedHook']
