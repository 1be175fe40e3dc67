"""Shared parts of the tools: arguments, errors, the console, output folders.

The packages that the tools need are checked when this is imported.
"""

from focal_retinanet.stack import check_stack

check_stack()
