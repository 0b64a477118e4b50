"""Timing of an ECP5 netlist before it is placed: delays of its cells, and a guess at routing."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .paths import Names, TimingPath, ordered, slowest, summary

__all__ = ["estimate", "worst"]

# ns, speed grade 6, as nextpnr's reports have them, rounded.
CLOCKED = {"TRELLIS_FF": 0.52, "DP16KD": 5.7, "PDPW16KD": 5.7}  # clock to output
THROUGH = {"LUT4": 0.24, "PFUMX": 0.24, "L6MUX21": 0.2, "MULT18X18D": 3.9, "MULT9X9D": 3.2}
RAM_READ = 0.24
CARRY_IN, CARRY_ON, CARRY_OUT, SUM = 0.45, 0.07, 0.44, 0.24
NO_ROUTE = {"PFUMX": ("ALUT", "BLUT"), "L6MUX21": ("D0", "D1")}  # inputs beside their driver
ROUTE, ROUTE_FANOUT = 0.42, 0.13  # a net's, and for each doubling of its loads: an assumption

def _bits(cell: Mapping[str, Any], *ports: str) -> list[int]:
    return [bit for port in ports for bit in cell["connections"].get(port, ())
            if isinstance(bit, int)]


class _Timing:
    """Arcs of a netlist: ``starts`` bit -> ns; ``arcs`` bit -> (from, ns, routed); ``ends``."""

    def __init__(self, module: Mapping[str, Any]):
        self.name = Names(module)
        self.starts: dict[int, float] = {}
        self.arcs: dict[int, list[tuple[int, float, bool]]] = {}
        self.ends: list[tuple[int, str]] = []
        self.loads: Counter[int] = Counter()
        for name, cell in module["cells"].items():
            inputs = [port for port, way in cell["port_directions"].items() if way == "input"]
            self.loads.update(_bits(cell, *inputs))
            self._cell(name, cell, inputs)
        for port in module["ports"].values():
            for bit in port["bits"]:
                if isinstance(bit, int) and port["direction"] == "input":
                    self.starts[bit] = 0.0

    def _cell(self, name: str, cell: Mapping[str, Any], inputs: list[str]) -> None:
        kind = cell["type"]
        outputs = [port for port, way in cell["port_directions"].items() if way == "output"]
        if kind in CLOCKED:
            for bit in _bits(cell, *outputs):
                self.starts[bit] = CLOCKED[kind]
            home = self.name(_bits(cell, "Q")[0]) if _bits(cell, "Q") else name
            self.ends += [(bit, home) for port in inputs if "CLK" not in port
                          for bit in _bits(cell, port)]
        elif kind == "TRELLIS_DPR16X4":
            for bit in _bits(cell, "DO"):
                self.arcs[bit] = [(source, RAM_READ, True) for source in _bits(cell, "RAD")]
            self.ends += [(bit, Names.plain(name)) for bit in _bits(cell, "WAD", "WRE", "DI")]
        elif kind == "CCU2C":
            first, second = (_bits(cell, *(f"{port}{at}" for port in "ABCD")) for at in (0, 1))
            carry = [(bit, False) for bit in _bits(cell, "CIN")]
            both = [(bit, True) for bit in first + second]
            for port, own, enters, leaves in (("S0", first, carry, CARRY_OUT), (
                    "S1", second, carry + [(bit, True) for bit in first], CARRY_OUT)):
                for bit in _bits(cell, port):
                    self.arcs[bit] = [(source, SUM, True) for source in own] + [
                        (source, leaves + (CARRY_IN if routed else 0), routed)
                        for source, routed in enters]
            for bit in _bits(cell, "COUT"):
                self.arcs[bit] = [(source, CARRY_IN if routed else CARRY_ON, routed)
                                  for source, routed in both + carry]
        elif kind in THROUGH:
            near = NO_ROUTE.get(kind, ())
            for bit in _bits(cell, *outputs):
                self.arcs[bit] = [(source, THROUGH[kind], port not in near)
                                  for port in inputs for source in _bits(cell, port)]

    def route(self, bit: int) -> float:
        return ROUTE + ROUTE_FANOUT * math.log2(1 + self.loads[bit])

    def arrivals(self) -> tuple[dict[int, float], dict[int, int]]:
        """When each bit is there, and the bit before it on the slowest way."""
        at, via = dict(self.starts), dict[int, int]()
        for bit in ordered(self.arcs, at):
            ways = [(at[source] + ns + (self.route(source) if routed else 0), source)
                    for source, ns, routed in self.arcs.get(bit, ())]
            at[bit] = 0.0
            if ways:
                at[bit], via[bit] = max(ways)
        return at, via


def worst(module: Mapping[str, Any]) -> list[TimingPath]:
    """The slowest path to each register, RAM or block RAM of a netlist of ECP5 cells, and where it
    begins; slowest first. Registers are named by their net, without bits."""
    timing = _Timing(module)
    at, via = timing.arrivals()
    return slowest(((at[bit] + timing.route(bit), bit, end) for bit, end in timing.ends
                    if bit in at), via, timing.name)


def estimate(netlist: Path, module: str, most: int = 20) -> dict[str, Any]:
    """:func:`~stmoe_sim.synth.paths.summary` of a netlist as yosys writes it in JSON."""
    return summary(worst(json.loads(netlist.read_text())["modules"][module]), most)
