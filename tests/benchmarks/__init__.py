"""Figures that are measured, not promised: `python -m tests.benchmarks [name ...]` prints each with its goal.

Every figure is a ratio of two things timed in turns within one run, so a busy machine shifts both.
"""
