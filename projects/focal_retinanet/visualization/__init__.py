"""Figures of data, assignments, losses, detections and training."""

from focal_retinanet.visualization.det_visualizer import DetVisualizer

__all__ = ['DetVisualizer']
