"""Memories of a netlist as cells of a liberty library of their own, timed by ``sram.toml``."""

from collections.abc import Mapping
from typing import Any

from .asic import sram_timing

__all__ = ["WIRES", "as_cells", "pins"]

WIRES = "fanout"
"""The wire load of the library: each pin that a net drives adds one capacitance."""
THRESHOLDS = "\n".join(
    f"{name}_{edge} : {percent};" for edge in ("rise", "fall") for name, percent in (
        ("input_threshold_pct", 50), ("output_threshold_pct", 50),
        ("slew_lower_threshold_pct", 20), ("slew_upper_threshold_pct", 80)))
_SHAPE = ("SIZE", "WIDTH", "ABITS", "RD_PORTS", "WR_PORTS", "RD_CLK_ENABLE")


def pins(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Nets of a cell by pin, each of one bit."""
    return {f"{port}{index}" if len(bits) > 1 or cell["type"] == "$mem_v2" else port: bit
            for port, bits in cell["connections"].items() for index, bit in enumerate(bits)}


def _shape(cell: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(str(cell["parameters"][name]), 2) for name in _SHAPE)


def _arc(related: str, values: Mapping[str, tuple[str, Any]]) -> str:
    """A timing group of the same values for rise and fall: by table, its template and value."""
    return f"timing() {{ related_pin : {related};" + "".join(
        f' {name.format(edge)}({template}) {{ values ("{value}"); }}'
        for edge in ("rise", "fall") for name, (template, value) in values.items()) + " }"


def _cell(kind: str, shape: tuple[int, ...], nm: float) -> str:
    """Words are read at the rising edge, or from the address on if the port has no clock."""
    words, width, bits, reads, writes, clocked = shape
    time = sram_timing(words, width, nm)
    setup = _arc("WR_CLK0; timing_type : setup_rising",
                 {"{}_constraint": ("scalar", time["setup"])})
    access = {"cell_{}": ("scalar", time["access"]), "{}_transition": ("slew", time["slews"])}
    text = [f"cell({kind}) {{"]
    text += [f"pin({name}{n}) {{ direction : input; clock : true; "
             f"capacitance : {time['clock_pf']:g}; }}"
             for name, many in (("WR_CLK", writes), ("RD_CLK", reads)) for n in range(many)]
    for name, many in {"RD_ADDR": reads * bits, "RD_EN": reads, "RD_ARST": reads, "RD_SRST": reads,
                       "WR_ADDR": writes * bits, "WR_DATA": writes * width,
                       "WR_EN": writes * width}.items():
        for n in range(many):
            through = name == "RD_ADDR" and not clocked >> n // bits & 1
            text.append(f"pin({name}{n}) {{ direction : input; capacitance : {time['pin_pf']:g}; "
                        f"{'' if through else setup} }}")
    for n in range(reads * width):
        port = n // width
        address = " ".join(f"RD_ADDR{i}" for i in range(port * bits, (port + 1) * bits))
        related = ("WR_CLK0; timing_type : rising_edge" if clocked >> port & 1
                   else f'"{address}"; timing_sense : non_unate')
        text.append(f"pin(RD_DATA{n}) {{ direction : output; {_arc(related, access)} }}")
    return "\n".join([*text, "}"])


def as_cells(module: Mapping[str, Any], nm: float, wire_pf: float,
             ) -> tuple[list[tuple[str, str, dict[str, Any]]], str]:
    """Cells of a netlist in JSON as (name, kind, nets by pin), and the liberty library of those
    kinds that are its memories, at ``nm``; with a wire load of ``wire_pf`` for each pin driven."""
    kinds: dict[tuple[int, ...], str] = {}
    cells = []
    for name, cell in module["cells"].items():
        kind = cell["type"]
        if kind == "$mem_v2":
            shape = _shape(cell)
            kind = kinds.setdefault(shape, f"ram{len(kinds)}_{shape[0]}x{shape[1]}")
        if kind != "$scopeinfo":
            cells.append((name, kind, pins(cell)))
    loads = sram_timing(1, 1, nm)["loads"]
    head = f"""library(macros) {{ delay_model : table_lookup;
time_unit : "1ns"; voltage_unit : "1V"; current_unit : "1uA"; pulling_resistance_unit : "1kohm";
capacitive_load_unit (1,pf); nom_voltage : 1;
{THRESHOLDS}
wire_load("{WIRES}") {{ resistance : 0; capacitance : {wire_pf:g}; area : 0; slope : 1;
fanout_length (1,1); }}
lu_table_template(slew) {{ variable_1 : total_output_net_capacitance; index_1 ("{loads}"); }}
"""
    return cells, head + "\n".join([*(_cell(kind, shape, nm) for shape, kind in kinds.items()),
                                    "}\n"])
