"""A model made faster without another result: convolutions, batch norms, bf16."""

from focal_retinanet.acceleration.amp import AmpOptimWrapper

__all__ = ['AmpOptimWrapper']
