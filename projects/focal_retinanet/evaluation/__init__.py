"""Numbers of detections, losses and training runs."""

from focal_retinanet.evaluation.coco_metric import CocoMetric

__all__ = ['CocoMetric']
