"""Gates of a unit simulated on many streams of stimulus at once: toggles, and their energy.

Without delays: a gate that switches several times in a cycle, a glitch, counts as it settles.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .liberty import Cell, Library

__all__ = ["Activity", "Netlist", "by_gate", "energy_pj", "simulate"]


@dataclasses.dataclass(frozen=True)
class Gate:
    """A cell of the netlist: nets by pin."""

    cell: Cell
    nets: Mapping[str, Any]


def _function(text: str, names: Sequence[str]) -> Callable[..., int]:
    """A liberty function (``!``, ``*`` or blank, ``+``, ``^``, in falling order but ``^`` before
    ``*``) over integers of many bits; ``ones`` is all of them."""
    text = re.sub(r"\s*([!()+^*&|'])\s*", r"\1", text)
    text = re.sub(r"(\w+)'", r"!\1", text)
    text = re.sub(r"(?<=\w)\s+(?=\w)|(?<=\))(?=[\w(!])|(?<=\w)(?=[(!])", "*", text)
    text = text.replace("+", "|").replace("*", "&").replace("!", "~")
    # Python binds & tighter than ^, liberty the other way round: libraries write the brackets.
    return eval(f"lambda ones, {', '.join(names)}: ({text}) & ones")


class Netlist:
    """Gates of a mapped unit, as yosys' ``write_json`` has them, in order of evaluation."""

    def __init__(self, module: Mapping[str, Any], library: Library):
        self.ports = {name: (port["direction"], port["bits"])
                      for name, port in module["ports"].items()}
        gates = [Gate(library.cells[cell["type"]],
                      {pin: bits[0] for pin, bits in cell["connections"].items()})
                 for cell in module["cells"].values() if cell["type"] != "$scopeinfo"]
        self.flip_flops = [gate for gate in gates if gate.cell.next_state]
        known = {gate.nets[pin] for gate in self.flip_flops for pin in gate.cell.outputs
                 if pin in gate.nets}
        known |= {bit for direction, bits in self.ports.values() if direction == "input"
                  for bit in bits} | {"0", "1", "x"}
        self.logic: list[Gate] = []
        waiting = [gate for gate in gates if not gate.cell.next_state]
        while waiting:
            ready = [gate for gate in waiting if all(gate.nets[pin] in known
                                                     for pin in gate.cell.inputs)]
            if not ready:
                raise ValueError("the gates have a loop without a flip-flop")
            self.logic += ready
            known |= {gate.nets[pin] for gate in ready for pin in gate.cell.outputs
                      if pin in gate.nets}
            chosen = set(map(id, ready))
            waiting = [gate for gate in waiting if id(gate) not in chosen]

    @property
    def gates(self) -> list[Gate]:
        return self.logic + self.flip_flops


@dataclasses.dataclass
class Activity:
    """Transitions of each net in ``cycles`` cycles of all streams, and outputs by cycle."""

    toggles: dict[Any, int]
    cycles: int
    outputs: list[dict[str, list[int]]]


def simulate(netlist: Netlist, stimulus: Sequence[Mapping[str, Sequence[int]]],
             skip: int = 0) -> Activity:
    """Run ``stimulus``: by cycle, of each input port, its values in the streams, unsigned.

    The first ``skip`` cycles fill the pipeline and do not count.
    """
    streams = len(next(iter(stimulus[0].values())))
    ones = (1 << streams) - 1
    functions = {
        (gate.cell.name, pin): _function(text, [*gate.cell.inputs, *gate.cell.states])
        for gate in netlist.gates for pin, text in gate.cell.outputs.items()}
    following = {gate.cell.name: _function(gate.cell.next_state, list(gate.cell.inputs))
                 for gate in netlist.flip_flops}
    now: dict[Any, int] = {"0": 0, "1": ones, "x": 0}
    state = [0] * len(netlist.flip_flops)
    activity = Activity({}, 0, [])
    before: dict[Any, int] = {}
    for cycle, values in enumerate(stimulus):
        for name, words in values.items():
            for index, net in enumerate(netlist.ports[name][1]):
                now[net] = int("".join("1" if word >> index & 1 else "0"
                                       for word in reversed(words)), 2)
        for gate, held in zip(netlist.flip_flops, state, strict=True):
            inputs = [0] * len(gate.cell.inputs)
            for pin in gate.cell.outputs:
                if pin in gate.nets:
                    now[gate.nets[pin]] = functions[gate.cell.name, pin](
                        ones, *inputs, held, ~held & ones)
        for gate in netlist.logic:
            inputs = [now[gate.nets[pin]] for pin in gate.cell.inputs]
            for pin in gate.cell.outputs:
                if pin in gate.nets:
                    now[gate.nets[pin]] = functions[gate.cell.name, pin](ones, *inputs)
        state = [following[gate.cell.name](ones, *(now.get(gate.nets[pin], 0)
                                                   for pin in gate.cell.inputs))
                 for gate in netlist.flip_flops]
        if cycle >= skip and before:
            activity.cycles += streams
            for net, value in now.items():
                changed = (value ^ before[net]).bit_count()
                if changed:
                    activity.toggles[net] = activity.toggles.get(net, 0) + changed
        before = dict(now)
        activity.outputs.append({
            name: [sum((now[net] >> stream & 1) << index for index, net in enumerate(bits))
                   for stream in range(streams)]
            for name, (direction, bits) in netlist.ports.items() if direction == "output"})
    return activity


def energy_pj(netlist: Netlist, activity: Activity, library: Library,
              slew_ns: float = 0.12) -> dict[str, float]:
    """Energy of a cycle of one stream, pJ: ``internal``, ``load``, ``clock``.

    Internal energies of the library at the pins' load and ``slew_ns``; half of C V^2 of the pins
    that a net drives, without wires, for each transition; flip-flops' clock pins twice a cycle.
    """
    load = _loads(netlist)
    per_cycle = {net: count / activity.cycles for net, count in activity.toggles.items()}
    found = {"internal": 0.0, "load": sum(
        toggles * load.get(net, 0.0) for net, toggles in per_cycle.items()) * library.volts**2 / 2,
        "clock": 0.0}
    for gate in netlist.gates:
        found["internal"] += _internal(gate, per_cycle, load, slew_ns)
        if gate.cell.next_state:
            clock = gate.cell.clock
            found["clock"] += 2 * (gate.cell.transition(clock, 0.0, slew_ns)
                                   + gate.cell.inputs[clock] * library.volts**2 / 2)
    return found


def by_gate(netlist: Netlist, per_cycle: Mapping[Any, float], library: Library,
            slew_ns: float = 0.12) -> Iterator[tuple[Gate, tuple[float, float]]]:
    """Of each gate, pJ in a cycle: internal, with its clock pin's, and of the nets that it drives;
    ``per_cycle``: transitions of each net."""
    load = _loads(netlist)
    for gate in netlist.gates:
        internal = _internal(gate, per_cycle, load, slew_ns)
        if gate.cell.next_state:
            internal += 2 * gate.cell.transition(gate.cell.clock, 0.0, slew_ns)
        nets = [gate.nets[pin] for pin in gate.cell.outputs if pin in gate.nets]
        yield gate, (internal, sum(per_cycle.get(net, 0.0) * load.get(net, 0.0) for net in nets)
                     * library.volts**2 / 2)


def _loads(netlist: Netlist) -> dict[Any, float]:
    load: dict[Any, float] = {}
    for gate in netlist.gates:
        for pin, capacitance in gate.cell.inputs.items():
            net = gate.nets.get(pin)
            load[net] = load.get(net, 0.0) + capacitance
    return load


def _internal(gate: Gate, per_cycle: Mapping[Any, float], load: Mapping[Any, float],
              slew_ns: float) -> float:
    """Without the clock pin's."""
    return sum(per_cycle.get(net := gate.nets.get(pin), 0.0)
               * gate.cell.transition(pin, load.get(net, 0.0), slew_ns)
               for pin in (*gate.cell.outputs, *gate.cell.inputs)
               if not (gate.cell.next_state and pin == gate.cell.clock))
