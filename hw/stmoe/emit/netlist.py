"""Amaranth to RTLIL and Verilog, the same bytes each time."""

import os
import re
from dataclasses import dataclass
from typing import Any

from amaranth.back import rtlil, verilog
from amaranth.hdl import Fragment, Value, ValueCastable
from amaranth.hdl._ir import PortDirection
from amaranth.lib.wiring import Component, In

__all__ = ["Netlist", "Port", "build_netlist", "loop_zero_memories"]

NAME = "stmoe"


@dataclass(frozen=True)
class Port:
    """A port of the netlist; ``direction`` is "input" or "output"."""

    name: str
    direction: str
    width: int


@dataclass(frozen=True)
class Netlist:
    """A converted design. ``signals``: hierarchical path in the Verilog -> width."""

    verilog: str
    rtlil: str
    ports: tuple[Port, ...]
    signals: dict[str, int]


def build_netlist(component: Component, name: str = NAME) -> Netlist:
    """Convert ``component``, whose signature's members become the ports beside clk and rst."""
    # The yosys of the Python package, unless the user asks otherwise: versions differ in output.
    os.environ.setdefault("AMARANTH_USE_YOSYS", "builtin,system")
    ports: dict[str, Any] = {}
    for path, member, value in component.signature.flatten(component):
        if isinstance(value, ValueCastable):
            value = value.as_value()
        if isinstance(value, Value):
            direction = PortDirection.Input if member.flow == In else PortDirection.Output
            ports["__".join(map(str, path))] = (value, direction)
    text, names = rtlil.convert_fragment(Fragment.get(component, None), ports, name,
                                         emit_src=False)
    signals = {".".join(path): len(signal) for signal, path in names.items()}
    listed = [Port("clk", "input", 1), Port("rst", "input", 1)]
    listed += [Port(port, direction.value, len(value))
               for port, (value, direction) in ports.items()]
    source = verilog._convert_rtlil_text(text, strip_internal_attrs=True)
    return Netlist(verilog=loop_zero_memories(source), rtlil=text, ports=tuple(listed),
                   signals=dict(sorted(signals.items())))


_INITIAL = re.compile(
    r"  initial begin\n"
    r"(?P<rows>(?:    (?P<name>\\\S+ |\w+)\[\d+\] = \d+'h0+;\n)"
    r"(?:    (?P=name)\[\d+\] = \d+'h0+;\n)*)"
    r"  end\n")


def loop_zero_memories(text: str) -> str:
    """Write the initial zeros of a memory as a loop instead of a line per row.

    Touches only blocks that set every row, from 0 on, of one memory to zero; contents of ROMs stay.
    """
    def shorten(match: re.Match[str]) -> str:
        rows = match["rows"].splitlines()
        indices = [int(row[row.rindex("[") + 1:row.rindex("]")]) for row in rows]
        if len(rows) < 4 or indices != list(range(len(rows))):
            return match[0]
        name = match["name"]
        width = rows[0].split(" = ")[1].split("'")[0]
        counter = "row_" + re.sub(r"\W+", "_", name).strip("_")
        return (f"  integer {counter};\n"
                f"  initial for ({counter} = 0; {counter} < {len(rows)}; {counter} = {counter} + 1)"
                f" {name}[{counter}] = {width}'h0;\n")

    return _INITIAL.sub(shorten, text)
