"""Timing of gates of a liberty library before they are placed, from its delay tables."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .liberty import Arc, Cell, LibertyError
from .paths import Names, TimingPath, ordered, slowest

__all__ = ["Gate", "belongs_to", "worst"]

Gate = tuple[str, str, Mapping[str, Any]]
"""Name, kind, nets by pin: whole numbers, or the text of a constant."""
Two = tuple[float, float]
NEVER: Two = (-math.inf, -math.inf)
_FROM = {"positive_unate": ((0,), (1,)), "negative_unate": ((1,), (0,)),
         "non_unate": ((0, 1), (0, 1))}
"""By sense, of a rise and a fall: edges of the source that may cause it; 0 is a rise."""


def belongs_to(gate: Gate, cells: Mapping[str, Cell], names: Names) -> str:
    """What a register's pins are reported as: the net that it drives; a memory by its own name."""
    name, kind, nets = gate
    outputs = [nets[pin] for pin in cells[kind].outputs if isinstance(nets.get(pin), int)]
    return names(outputs[0]) if outputs else Names.plain(name)


class _Timing:
    """When nets change at the latest, of a rise and of a fall, ns from the clock's rising edge.

    The clock is ideal, its edge without a transition time, and so are ports. Transition times are
    the slowest of any way to a net.
    """

    def __init__(self, gates: Sequence[Gate], cells: Mapping[str, Cell], wire_pf: float,
                 inputs: Iterable[int]):
        self.cells, self.gates = cells, gates
        loads: defaultdict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
        fan_out: Counter[int] = Counter()
        self.clocked: dict[int, list[Arc]] = {}
        self.before: dict[int, list[tuple[int, Arc]]] = {}
        for name, kind, nets in gates:
            if kind not in cells:
                raise LibertyError(f"{name}: the library has no cell {kind}")
            cell = cells[kind]
            for pin, edges in cell.edge_load.items():
                if isinstance(bit := nets.get(pin), int):
                    fan_out[bit] += 1
                    for edge in (0, 1):
                        loads[bit][edge] += edges[edge]
            for pin, arcs in cell.arcs.items():
                if pin not in cell.inputs and isinstance(bit := nets.get(pin), int):
                    self._driver(bit, kind, arcs, nets)
        self.loads = {bit: (rise + wire_pf * fan_out[bit], fall + wire_pf * fan_out[bit])
                      for bit, (rise, fall) in loads.items()}
        self.at: dict[int, Two] = dict.fromkeys(inputs, (0.0, 0.0))
        self.slew: dict[int, Two] = dict.fromkeys(self.at, (0.0, 0.0))
        self.via: dict[tuple[int, int], tuple[int, int]] = {}
        for bit, clocked in self.clocked.items():
            self._settle(bit, [(None, arc) for arc in clocked])
        for bit in ordered(self.before, self.at):
            self._settle(bit, self.before.get(bit, ()))

    def _driver(self, bit: int, kind: str, arcs: Sequence[Arc], nets: Mapping[str, Any]) -> None:
        used = [arc for arc in arcs if arc.kind in ("combinational", "rising_edge")]
        if not used or any(None in (*arc.delay, *arc.slew) for arc in used):
            raise LibertyError(f"cell {kind}: no delay tables from a rising edge or an input")
        clocked = [arc for arc in used if arc.kind == "rising_edge"]
        if clocked:
            self.clocked[bit] = clocked
        else:
            self.before[bit] = [(nets[arc.source], arc) for arc in used
                                if isinstance(nets.get(arc.source), int)]

    def _settle(self, bit: int, ways: Iterable[tuple[int | None, Arc]]) -> None:
        at, slews = list(NEVER), [0.0, 0.0]
        load = self.loads.get(bit, (0.0, 0.0))
        for source, arc in ways:
            began, slew = ((0.0, -math.inf), (0.0, 0.0)) if source is None else (
                self.at[source], self.slew[source])
            for edge, causes in enumerate(_FROM[arc.sense]):
                delay, transition = arc.delay[edge], arc.slew[edge]
                assert delay and transition
                for cause in causes:
                    if began[cause] == -math.inf:
                        continue
                    then = began[cause] + delay.at(load[edge], slew[cause])
                    slews[edge] = max(slews[edge], transition.at(load[edge], slew[cause]))
                    if then > at[edge]:
                        at[edge] = then
                        if source is not None:
                            self.via[bit, edge] = source, cause
        self.at[bit], self.slew[bit] = (at[0], at[1]), (slews[0], slews[1])

    def ends(self, names: Names) -> Iterable[tuple[float, tuple[int, int], str]]:
        """Of each pin with a setup time: arrival and setup, node, what it belongs to."""
        for name, kind, nets in self.gates:
            cell, home = self.cells[kind], belongs_to((name, kind, nets), self.cells, names)
            for pin in cell.inputs:
                for arc in cell.arcs[pin]:
                    if arc.kind != "setup_rising" or not isinstance(bit := nets.get(pin), int):
                        continue
                    for edge, setup in enumerate(arc.delay):
                        if setup and self.at.get(bit, NEVER)[edge] > -math.inf:
                            yield (self.at[bit][edge] + setup.at(0.0, self.slew[bit][edge]),
                                   (bit, edge), home)


def worst(gates: Sequence[Gate], module: Mapping[str, Any], cells: Mapping[str, Cell],
          wire_pf: float) -> list[TimingPath]:
    """The slowest path to each register or memory, setup included; slowest first.

    ``gates``: of ``module``, a netlist as yosys writes it in JSON, as
    :func:`~stmoe_sim.synth.macros.as_cells` has them; ``cells``: of what they are. A net's load is
    its pins, and ``wire_pf`` for each. :class:`LibertyError` if a cell or its delay is missing.
    """
    names = Names(module)
    inputs = [bit for port in module["ports"].values() if port["direction"] == "input"
              for bit in port["bits"] if isinstance(bit, int)]
    timing = _Timing(gates, cells, wire_pf, inputs)
    return slowest(timing.ends(names), timing.via, lambda node: names(node[0]))
