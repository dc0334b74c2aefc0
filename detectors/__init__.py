"""Detectors: pure functions from a baseline's counts and a window's counts to a score.

Numpy and scipy only; no I/O, clock, logging or global state. `profile` builds a baseline and counts rows on its
cells, each detector is one file and one line in `registry`, `decision` turns counts and scores into states.
"""
