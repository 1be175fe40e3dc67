"""Faster convolutions, folded batch norms and bf16 for the same model."""

from focal_retinanet.acceleration.amp import AmpOptimWrapper

__all__ = ['AmpOptimWrapper']
