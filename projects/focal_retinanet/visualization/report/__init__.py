"""A folder of HTML about one model or many, to be opened from disk."""

from focal_retinanet.visualization.report.report import write_report

__all__ = ['write_report']
