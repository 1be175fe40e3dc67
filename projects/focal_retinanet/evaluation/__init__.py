"""What a run found, in numbers."""

from focal_retinanet.evaluation.coco_metric import CocoMetric

__all__ = ['CocoMetric']
