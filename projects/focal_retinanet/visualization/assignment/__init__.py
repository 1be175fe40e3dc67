"""Figures of the assignment of anchors to objects: of an image, and of a data set."""

from focal_retinanet.visualization.assignment.coverage_figure import (
    save_coverage_figure,
)
from focal_retinanet.visualization.assignment.picture import save_assignment_picture

__all__ = ['save_assignment_picture', 'save_coverage_figure']
