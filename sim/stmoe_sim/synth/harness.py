"""Pins for a netlist of more ports than any package has: shift registers around it."""

import re
from collections.abc import Sequence

from amaranth.back import rtlil
from amaranth.hdl import Cat, ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["HARNESS", "constraints", "harness", "ports"]

HARNESS = "harness"
_PORT = re.compile(
    r"^  wire(?: width (\d+))?(?: signed)? (input|output) \d+ +(?:signed +)?\\(\S+)$", re.M)


def ports(module: str) -> list[tuple[str, str, int]]:
    """Name, direction and width of the ports of a module in RTLIL."""
    return [(name, direction, int(width or 1)) for width, direction, name in _PORT.findall(module)]


class Harness(wiring.Component):
    """The module ``top`` between two shift registers: five pins, clock and reset among them.

    Every input is driven by a flip-flop of the one, every output goes through a gate into a
    flip-flop of the other, so that paths into and out of the module are timed as between blocks
    of a chip, and nothing of it is optimised away.

    Members
    -------
    si: into the inputs. so: the outputs' parities, shifted.
    """

    def __init__(self, top: str, of: list[tuple[str, str, int]]):
        self.top, self.of = top, of
        super().__init__({"si": In(1), "so": Out(1)})

    def elaborate(self, platform):
        m = Module()
        inputs: list[Signal] = []
        outputs: list[Signal] = []
        connections: dict[str, Signal] = {}
        for name, direction, width in self.of:
            if name not in ("clk", "rst"):
                wire = Signal(width, name=name, reset_less=True)
                (inputs if direction == "input" else outputs).append(wire)
                connections[f"{direction[0]}_{name}"] = wire
        before, after = Cat(*inputs), Cat(*outputs)
        shifted = Signal(len(after), reset_less=True)
        reset = Signal(2)
        m.d.sync += [before.eq(Cat(self.si, before)), shifted.eq((shifted << 1) ^ after)]
        m.d.comb += self.so.eq(shifted[-1])
        m.d.sync += reset.eq(Cat(ResetSignal(), reset))
        m.submodules[self.top] = Instance(self.top, i_clk=ClockSignal(), i_rst=reset[-1],
                                          **connections)
        return m


def harness(top: str, stub: str) -> str:
    """RTLIL of the harness around the module ``top``, whose ports ``stub`` has."""
    component = Harness(top, ports(stub))
    return rtlil.convert(component, name=HARNESS, emit_src=False)


def constraints(pins: Sequence[str]) -> str:
    """Where the harness's ports are, as nextpnr reads it: sites of clock, reset, input, output."""
    return "".join(f'LOCATE COMP "{port}" SITE "{site}";\nIOBUF PORT "{port}" IO_TYPE=LVCMOS33;\n'
                   for port, site in zip(("clk", "rst", "si", "so"), pins, strict=True))
