"""A report on one model or several: a folder of HTML that opens from disk."""

from focal_retinanet.visualization.report.report import write_report

__all__ = ['write_report']
