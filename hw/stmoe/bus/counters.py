"""The hardware counters: names and widths of their increments, from the register description."""

from ..config import Geometry
from .registers import registers

__all__ = ["CYCLE_CAUSES", "counter_widths"]

CYCLE_CAUSES = ("attention", "receive", "route", "verify", "compute", "stall_demand", "stall_late",
                "merge", "output")
"""Causes, exactly one of which holds in each cycle: ``cycles_CAUSE`` sum to ``cycles_total``."""


def counter_widths(geometry: Geometry) -> dict[str, int]:
    """Bits of the increment ``inc_NAME`` per counter, in order of address."""
    return {register.name: register.fields[0].step
            for register in registers(geometry) if register.fields[0].kind == "counter"}
