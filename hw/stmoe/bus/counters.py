"""The hardware counters: names and widths of their increments, from the register description."""

from functools import cache

from ..config import PRESETS, Geometry
from .registers import registers

__all__ = ["CYCLE_CAUSES", "counter_widths"]

CYCLE_CAUSES = ("attention", "receive", "route", "verify", "compute", "stall_demand", "stall_late",
                "merge", "output")
"""Causes, exactly one of which holds in each cycle: ``cycles_CAUSE`` sum to ``cycles_total``."""


@cache
def counter_widths() -> dict[str, int]:
    """Bits of the increment ``inc_NAME`` per counter, the same in every configuration."""
    some = Geometry(PRESETS["tiny"])
    return {register.name: register.fields[0].step
            for register in registers(some) if register.fields[0].kind == "counter"}
