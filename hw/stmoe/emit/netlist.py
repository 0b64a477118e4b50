"""Amaranth to RTLIL and Verilog, the same bytes each time."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from amaranth.back import rtlil, verilog
from amaranth.hdl import Fragment, Value
from amaranth.hdl._ir import PortDirection
from amaranth.lib.wiring import Component, In

from ..sharing import Emission

__all__ = ["Netlist", "Port", "build_netlist", "build_rtlil", "drop_empty_wires",
           "loop_uniform_memories", "settle_constants"]

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
    through_yosys, text, by_hand = "", "", ""
    signals: dict[str, int] = {}
    for unit, module, part, inside in _modules(component, name):
        text += leave_collisions(part)
        if hasattr(unit, "verilog"):
            by_hand += "\n" + unit.verilog(f"\\{module} ")
        else:
            through_yosys += part
        signals |= inside
    listed = [Port("clk", "input", 1), Port("rst", "input", 1)]
    listed += [Port(port, direction.value, len(value))
               for port, (value, direction) in _ports(component).items()]
    source = verilog._convert_rtlil_text(through_yosys, strip_internal_attrs=True)
    source = loop_uniform_memories(settle_constants(drop_empty_wires(source)))
    return Netlist(verilog=source + by_hand, rtlil=text, ports=tuple(listed),
                   signals=dict(sorted(signals.items())))


def build_rtlil(component: Component, name: str = NAME) -> str:
    """The RTLIL of :func:`build_netlist` alone, for synthesis: no yosys is needed."""
    return "".join(leave_collisions(part) for _, _, part, _ in _modules(component, name))


def _modules(component: Component,
             name: str) -> Iterator[tuple[Component, str, str, dict[str, int]]]:
    """The component, then what occurs often in it: with name, RTLIL and signals of each."""
    platform = Emission(name)
    yield component, name, *_convert(component, platform, _ports(component), name)
    units = 0
    while units < len(platform.units):  # they may use others
        module, unit = list(platform.units.values())[units]
        text, inside = _convert(unit, platform, _ports(unit), module)
        yield unit, module, text.replace("attribute \\top 1\n", ""), inside
        units += 1


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


_MODULE = re.compile(r"^module .*?^end$", re.M | re.S)
_MEMORY = re.compile(r"  attribute \\no_rw_check 1\n(?:  attribute [^\n]*\n)*"
                     r"  memory [^\n]* (\\\S+)\n")
_READ = re.compile(r"(    parameter \\MEMID \"(?P<name>\S+)\"\n(?:    parameter [^\n]*\n)*?"
                   r"    parameter \\COLLISION_X_MASK \d+')(?P<mask>0+)\n")


def leave_collisions(text: str) -> str:
    """Let memories with the attribute ``no_rw_check`` read anything where a write hits as well.

    yosys looks at the attribute only where it makes a read port of a register itself; Amaranth's
    ports say that they want the old contents, for which FPGAs need logic beside the RAM.
    """
    def free_all(module: re.Match[str]) -> str:
        free = {name.replace("\\", "\\\\") for name in _MEMORY.findall(module[0])}
        return _READ.sub(lambda match: match[1] + match["mask"].replace("0", "1") + "\n"
                         if match["name"] in free else match[0], module[0]) if free else module[0]

    return _MODULE.sub(free_all, text)


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


_EMPTY = re.compile(r"^  (?:wire|reg) \[-1:0\] (?!.*=).*;\n", re.M)


def drop_empty_wires(text: str) -> str:
    """Leave out declarations of no bits, which nothing refers to: Verilog has no such wires."""
    return _EMPTY.sub("", text)
