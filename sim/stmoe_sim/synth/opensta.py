"""Timing of gates of a liberty library by OpenSTA, where it is installed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .liberty import Cell
from .library_timing import Gate, belongs_to
from .macros import WIRES
from .paths import Names, TimingPath
from .tools import ToolError, run_tool

__all__ = ["structural", "worst"]

_PATH = re.compile(r"^PATH c(\d+)/(\S+) c(\d+)/\S+ (\S+) (\d+)$", re.M)


def structural(module: Mapping[str, Any], gates: Sequence[Gate], top: str) -> Iterator[str]:
    """Lines of Verilog: wires n2, n3 .. of the nets, cells c0, c1 .. of the gates.

    yosys' own Verilog has memories as they behave and ``signed``, which OpenSTA does not read.
    """
    bits = {direction: [(f"{name}{index}" if len(port["bits"]) > 1 else name, bit)
                        for name, port in module["ports"].items()
                        if port["direction"] == direction
                        for index, bit in enumerate(port["bits"])]
            for direction in ("input", "output")}
    ports = bits["input"] + bits["output"]
    yield f"module {top} ({', '.join(name for name, _ in ports)});"
    yield from (f"{direction} {name};" for direction, names in bits.items() for name, _ in names)
    taken = {bit: name for name, bit in bits["input"]}
    nets = {bit for _, _, pins in gates for bit in pins.values() if isinstance(bit, int)}
    yield from (f"wire n{bit};" for bit in sorted(nets - set(taken)))

    def net(bit: Any) -> str:
        return taken.get(bit) or (f"n{bit}" if isinstance(bit, int) else f"1'b{bit}"
                                  if bit in ("0", "1") else "")

    yield from (f"assign {name} = {net(bit)};" for name, bit in bits["output"] if net(bit))
    for index, (_, kind, pins) in enumerate(gates):
        joined = ", ".join(f".{pin}({net(bit)})" for pin, bit in pins.items())
        yield f"{kind} c{index} ({joined});"
    yield "endmodule\n"


def _script(liberty: Path, top: str, clock: str, period: float) -> str:
    return f"""read_liberty {liberty}
read_liberty macros.lib
set_cmd_units -time ns -capacitance pF
read_verilog gates.v
link_design {top}
set_wire_load_model -name {WIRES} -library macros
create_clock -name clk -period {period:g} [get_ports {clock}]
report_checks -path_delay max -format full -fields {{slew capacitance input_pin}}
foreach path [find_timing_paths -path_delay max -group_count 10000000] {{
  puts "PATH [get_full_name [get_property $path startpoint]]\\
    [get_full_name [get_property $path endpoint]] [get_property $path slack]\\
    [llength [get_property $path points]]"
}}
exit
"""


def worst(home: Path, liberty: Path, module: Mapping[str, Any], gates: Sequence[Gate],
          cells: Mapping[str, Cell], period: float) -> list[TimingPath]:
    """The slowest path to each register or memory, as OpenSTA has it, setup included.

    Script, netlist and report are left in the folder ``home``, where ``macros.lib`` has what
    ``liberty`` has not. ``period``: ns, that slack in the report is against. Of the nets of a path
    only the first is named.
    """
    (home / "gates.v").write_text("\n".join(structural(module, gates, "gates")))
    (home / "sta.tcl").write_text(_script(liberty.resolve(), "gates", "clk", period))
    log = run_tool("sta", ["-no_splash", "-exit", "sta.tcl"], home, "sta.log")
    names, last = Names(module), dict[str, TimingPath]()
    for start, pin, end, slack, points in _PATH.findall(log):
        net = gates[int(start)][2][pin]
        path = TimingPath(period - float(slack), (int(points) - 2) // 2, names(net),
                          belongs_to(gates[int(end)], cells, names), (names(net),))
        last[path.end] = max(path, last.get(path.end, path), key=lambda one: one.ns)
    error = re.search("^Error: .*", log, re.M)
    if error or not last:
        raise ToolError(f"sta: {error[0] if error else 'no paths'}; see {home / 'sta.log'}")
    return sorted(last.values(), key=lambda one: -one.ns)
