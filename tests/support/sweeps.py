"""Sweeps over a small trace ``t.npz``, which the fixture ``home`` has."""

__all__ = ["SMALL", "SWEEP"]

SWEEP = """
name = "small"
[set]
trace.file = "t.npz"
trace.tokens = 6
trace.warmup = 2
[grid]
config.slots = [6, 12, 1]
policy.name = ["on-demand", "ewma", "linear", "ours", "oracle"]
"""
SMALL = '[set]\ntrace.file = "t.npz"\ntrace.tokens = 3\ntrace.warmup = 1\n'
