"""Amaranth to RTLIL and Verilog, the same bytes each time."""

import os
import re
from dataclasses import dataclass
from typing import Any

from amaranth.back import rtlil, verilog
from amaranth.hdl import Fragment, Value
from amaranth.hdl._ir import PortDirection
from amaranth.lib.wiring import Component, In

from ..sharing import Emission

__all__ = ["Netlist", "Port", "build_netlist", "loop_uniform_memories",
           "settle_constants"]

NAME = "stmoe"


@dataclass(frozen=True)
class Port:
    """A port of the netlist; ``direction`` is "input" or "output"."""

    name: str
    direction: str
    width: int


@dataclass(frozen=True)
class Netlist:
    """A converted design.

    ``signals``: hierarchical path in the Verilog -> width. Those of a module that occurs several
    times are listed once, below the module's name.
    """

    verilog: str
    rtlil: str
    ports: tuple[Port, ...]
    signals: dict[str, int]


def build_netlist(component: Component, name: str = NAME) -> Netlist:
    """Convert ``component``, whose signature's members become the ports beside clk and rst."""
    # The yosys of the Python package, unless the user asks otherwise: versions differ in output.
    os.environ.setdefault("AMARANTH_USE_YOSYS", "builtin,system")
    ports = _ports(component)
    platform = Emission(name)
    text, signals = _convert(component, platform, ports, name)
    through_yosys, by_hand = text, ""
    units = 0
    while units < len(platform.units):  # modules that occur often; they may use others
        module, unit = list(platform.units.values())[units]
        more, inside = _convert(unit, platform, _ports(unit), module)
        more = more.replace("attribute \\top 1\n", "")
        text += more
        if hasattr(unit, "verilog"):
            by_hand += "\n" + unit.verilog(f"\\{module} ")
        else:
            through_yosys += more
        signals |= inside
        units += 1
    listed = [Port("clk", "input", 1), Port("rst", "input", 1)]
    listed += [Port(port, direction.value, len(value))
               for port, (value, direction) in ports.items()]
    source = verilog._convert_rtlil_text(through_yosys, strip_internal_attrs=True)
    return Netlist(verilog=loop_uniform_memories(settle_constants(source)) + by_hand, rtlil=text,
                   ports=tuple(listed), signals=dict(sorted(signals.items())))


def _ports(component: Component) -> dict[str, Any]:
    """Members of the component's signature as ports, nested ones joined by two underscores."""
    ports = {}
    for path, member, value in component.signature.flatten(component):
        direction = PortDirection.Input if member.flow == In else PortDirection.Output
        ports["__".join(map(str, path))] = (Value.cast(value), direction)
    return ports


def _convert(component: Component, platform: Emission, ports: dict[str, Any],
             name: str) -> tuple[str, dict[str, int]]:
    """RTLIL of a component as module ``name``, and its signals: path -> width."""
    text, names = rtlil.convert_fragment(Fragment.get(component, platform), ports, name,
                                         emit_src=False)
    return text, {".".join(path): len(signal) for signal, path in names.items()}


_INITIAL = re.compile(
    r"  initial begin\n"
    r"    (?P<name>\\\S+ |\w+)\[0\] = (?P<value>\d+'h[0-9a-f]+);\n"
    r"(?P<rest>(?:    (?P=name)\[\d+\] = (?P=value);\n)+)"
    r"  end\n")


def loop_uniform_memories(text: str) -> str:
    """Write the initial contents of a memory as a loop instead of a line per row.

    Touches only blocks that set rows 0, 1, 2 .. of one memory to one value; ROMs stay.
    """
    def shorten(match: re.Match[str]) -> str:
        indices = [0] + [int(row[row.rindex("[") + 1:row.rindex("]")])
                         for row in match["rest"].splitlines()]
        if len(indices) < 4 or indices != list(range(len(indices))):
            return match[0]
        name = match["name"]
        row = f"{name[:-1]}$row " if name[0] == "\\" else f"{name}$row"
        return (f"  integer {row};\n"
                f"  initial for ({row} = 0; {row} < {len(indices)}; {row} = {row} + 1)"
                f" {name}[{row}] = {match['value']};\n")

    return _INITIAL.sub(shorten, text)


_CONSTANT = re.compile(
    r"  always @\*\n    (?P<target>\S.*?) = (?P<value>\d+'h[0-9a-f]+);\n")


def settle_constants(text: str) -> str:
    """Give blocks that only assign a constant something to be sensitive to.

    ``always @*`` waits for a change of what the block reads; yosys also writes it around constants
    (parts of a vector that is driven by a block elsewhere), which then never get their value in
    simulation. A register that is 0 from its declaration on makes every simulator run the block.
    """
    counter = 0

    def wake(match: re.Match[str]) -> str:
        nonlocal counter
        counter += 1
        return (f"  reg settle${counter} = 0;\n  always @* begin\n"
                f"    if (settle${counter}) begin end\n"
                f"    {match['target']} = {match['value']};\n  end\n")

    return _CONSTANT.sub(wake, text)
