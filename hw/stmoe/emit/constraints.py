"""Timing constraints: one clock, and what logic outside takes of its period."""

from collections.abc import Iterable

from ..config import AcceleratorConfig
from .netlist import Port

__all__ = ["constraints"]


def constraints(config: AcceleratorConfig, ports: Iterable[Port]) -> str:
    """Constraints in the part of SDC that Vivado's XDC, OpenSTA and ASIC tools share.

    A quarter of the period is left to logic outside at every port: an assumption to be replaced.
    """
    period = 1000 / config.clock_mhz
    lines = [f"# Configuration {config.hash:016x}, clock {config.clock_mhz} MHz.",
             "# The delays at the ports are an assumption: a quarter of the period outside.",
             f"create_clock -name clk -period {period:.3f} [get_ports clk]"]
    for port in ports:
        if port.name != "clk":
            bits = port.name + ("[*]" if port.width > 1 else "")
            lines.append(f"set_{port.direction}_delay -clock clk {period / 4:.3f} "
                         f"[get_ports {{{bits}}}]")
    return "\n".join(lines) + "\n"
