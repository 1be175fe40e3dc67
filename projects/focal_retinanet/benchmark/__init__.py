"""Ours against other implementations: the same inputs, agreement first, then time.

:mod:`~focal_retinanet.benchmark.contest` says what is compared,
:mod:`~focal_retinanet.benchmark.measure` compares it, and ``cases`` has one
module for each sub-command of ``tools/benchmark.py``.
"""
