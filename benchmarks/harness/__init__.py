"""Ours against other implementations: the same inputs, agreement first, then time.

:mod:`~harness.contest` says what is compared,
:mod:`~harness.measure` compares it, and ``cases`` has one
module for each sub-command of ``benchmarks/run.py``.
"""
