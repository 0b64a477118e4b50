"""Timing of gates of a liberty library by OpenSTA, where it is installed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .liberty import Cell
from .library_timing import Gate, belongs_to
from .macros import WIRES
from .paths import Names, TimingPath
from .tools import ToolError, run_tool, tool_version

__all__ = ["power", "structural", "worst"]

_PATH = re.compile(r"^PATH (?:c(\d+)/)?(\S+) c(\d+)/\S+ (\S+) (\d+)$", re.M)


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


def _read(liberty: Path, clock: str, period: float, wires: bool) -> str:
    """Commands up to constraints; without a delay at ports power behind them has no period."""
    return f"""read_liberty {liberty.resolve()}
read_liberty macros.lib
set_cmd_units -time ns -capacitance pF -power W
read_verilog gates.v
link_design {TOP}
{f"set_wire_load_model -name {WIRES} -library macros" if wires else ""}
create_clock -name clk -period {period:g} [get_ports {clock}]
foreach port [all_inputs] {{
  if {{[get_name $port] ne "{clock}"}} {{ set_input_delay 0 -clock clk $port }}
}}
"""


TOP = "gates"
REPORT = """report_checks -path_delay max -format full -fields {slew capacitance input_pin}
foreach path [find_timing_paths -path_delay max -group_count 10000000] {
  puts "PATH [get_full_name [get_property $path startpoint]]\\
    [get_full_name [get_property $path endpoint]] [get_property $path slack]\\
    [llength [get_property $path points]]"
}
exit
"""


def _run(home: Path) -> str:
    log = run_tool("sta", ["-no_splash", "-exit", "sta.tcl"], home, "sta.log")
    if error := re.search("^Error: .*", log, re.M):
        raise ToolError(f"sta: {error[0]}; see {home / 'sta.log'}")
    return log


def worst(home: Path, liberty: Path, module: Mapping[str, Any], gates: Sequence[Gate],
          cells: Mapping[str, Cell], period: float) -> list[TimingPath]:
    """The slowest path to each register or memory, as OpenSTA has it, setup included.

    Script, netlist and report are left in the folder ``home``, where ``macros.lib`` has what
    ``liberty`` has not. ``period``: ns, that slack in the report is against. Of the nets of a path
    only the first is named.
    """
    (home / "gates.v").write_text("\n".join(structural(module, gates, TOP)))
    (home / "sta.tcl").write_text(_read(liberty, "clk", period, True) + REPORT)
    log = _run(home)
    names, last = Names(module), dict[str, TimingPath]()
    for start, pin, end, slack, points in _PATH.findall(log):
        began = names(gates[int(start)][2][pin]) if start else pin
        path = TimingPath(period - float(slack), (int(points) - 2) // 2, began,
                          belongs_to(gates[int(end)], cells, names), (began,))
        last[path.end] = max(path, last.get(path.end, path), key=lambda one: one.ns)
    if not last:
        raise ToolError(f"sta: no paths; see {home / 'sta.log'}")
    return sorted(last.values(), key=lambda one: -one.ns)


def power(home: Path, liberty: Path, module: Mapping[str, Any], gates: Sequence[Gate],
          toggles: Mapping[Any, float], clock: str, period: float = 10,
          ) -> tuple[list[tuple[float, float]], dict[Any, float]]:
    """Energy of a cycle in pJ by ``report_power``, without wires: of each gate ``internal`` and
    ``switching``; and the transitions of a cycle that it takes each net to have.

    ``toggles``: those of the input ports' nets; OpenSTA works out the others, from probabilities.
    OpenSTA 2.0 takes a transition's internal energy to be the library's of a rise and of a fall,
    not their mean: it is halved here. Files as :func:`worst` leaves them.
    """
    (home / "gates.v").write_text("\n".join(structural(module, gates, TOP)))
    lines = [f"set_power_activity -input_ports [get_ports {name}{n if many else ''}] "
             f"-activity {toggles.get(bit, 0):g} -duty 0.5"
             for name, port in module["ports"].items() if port["direction"] == "input"
             if name != clock for many in [len(port["bits"]) > 1]
             for n, bit in enumerate(port["bits"])]
    (home / "sta.tcl").write_text("\n".join([
        _read(liberty, clock, period, False), *lines, "sta::set_debug power_activity 3",
        "report_power -instances [get_cells *] -digits 6", "exit\n"]))
    log = _run(home)
    rows = {int(gate): (float(internal), float(switching)) for internal, switching, gate in
            re.findall(r"^ *(\S+) +(\S+) +\S+ +\S+ c(\d+)$", log, re.M)}
    taken = {gates[int(gate)][2][pin]: float(activity) for gate, pin, activity in re.findall(
        r"^power_activity: set c(\d+)/(\S+) (\S+)", log, re.M)}
    if len(rows) != len(gates) or not taken:
        raise ToolError(f"sta: no power or no activities; see {home / 'sta.log'}")
    edges = 2 if tool_version("sta").split()[-1].startswith("2.0") else 1
    pj = period * 1e3
    return [(rows[gate][0] * pj / edges, rows[gate][1] * pj) for gate in range(len(gates))], taken
