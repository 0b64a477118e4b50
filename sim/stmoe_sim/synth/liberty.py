"""What a liberty library says of cells: capacitances, functions, delays, energy of transitions."""

import dataclasses
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["Arc", "Cell", "LibertyError", "Library", "Table", "read_liberty"]

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}();:,]|[^\s{}();:,"]+')
_NOISE = re.compile(r"/\*.*?\*/|\\\n", re.S)


class LibertyError(ValueError):
    """A library that cannot be used; the message names file, cell and what is wrong."""


@dataclasses.dataclass
class Group:
    """A group of the file: ``kind (arguments) { attributes, groups }``."""

    kind: str
    arguments: list[str]
    attributes: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    groups: list["Group"] = dataclasses.field(default_factory=list)

    def of(self, *kinds: str) -> Iterator["Group"]:
        """Groups inside, of these kinds."""
        return (group for group in self.groups if group.kind in kinds)

    def number(self, name: str, otherwise: float = 0.0) -> float:
        return float(self.attributes[name][0]) if name in self.attributes else otherwise


@dataclasses.dataclass(frozen=True)
class Table:
    """Energy of a transition (pJ) or delay (ns) over load (pF) and input transition (ns), a
    constraint (ns) over transitions of clock and data; an axis of one entry: any."""

    loads: tuple[float, ...]
    slews: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]

    def at(self, load: float, slew: float) -> float:
        """Linear between the points, and beyond them with the last segment's slope."""
        def line(axis: tuple[float, ...], x: float) -> tuple[int, float]:
            if len(axis) == 1:
                return 0, 0.0
            low = min(max(bisect_right(axis, x) - 1, 0), len(axis) - 2)
            return low, (x - axis[low]) / (axis[low + 1] - axis[low])

        i, a = line(self.loads, load)
        j, b = line(self.slews, slew)
        rows = [self.values[k][j] + b * (self.values[k][min(j + 1, len(self.slews) - 1)]
                                         - self.values[k][j])
                for k in (i, min(i + 1, len(self.loads) - 1))]
        return rows[0] + a * (rows[1] - rows[0])


Edges = tuple[Table | None, Table | None]
"""Of a rise and of a fall."""


@dataclasses.dataclass(frozen=True)
class Arc:
    """Timing of a pin against ``source``.

    ``kind``: of liberty's timing types, ``sense``: of its senses. ``delay``: to a rise and a fall
    of the pin, or what a setup asks for; ``slew``: of the pin.
    """

    source: str
    kind: str
    sense: str
    delay: Edges
    slew: Edges


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes
    ----------
    inputs: capacitance, pF, by pin. outputs: function by pin, of pins or of the state.
    energy: by pin, of a rise and of a fall: an output's over load and transition, an input's
    without a change of the output over transition alone; averages over what caused it.
    next_state, clock, states: of a flip-flop; the state, and its complement, by name.
    arcs: by pin. edge_load: capacitance, pF, that a rise and a fall see, by input. most: by output
    pin what it may drive, pF, if the library says so.
    """

    name: str
    inputs: dict[str, float]
    outputs: dict[str, str]
    energy: dict[str, tuple[list[Table], list[Table]]]
    leakage_nw: float
    next_state: str = ""
    clock: str = ""
    states: tuple[str, ...] = ()
    arcs: dict[str, list[Arc]] = dataclasses.field(default_factory=dict)
    edge_load: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    most: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def is_buffer(self) -> bool:
        """One input, and one output that follows it, with delays."""
        return (len(self.inputs) == len(self.outputs) == 1 and not self.next_state
                and next(iter(self.outputs.values())).strip("() ") in self.inputs
                and any(None not in arc.delay for pin in self.outputs for arc in self.arcs[pin]))

    def transition(self, pin: str, load: float, slew: float) -> float:
        """Internal energy of a transition of ``pin``, pJ: the mean of rise and fall."""
        sides = self.energy.get(pin, ([], []))
        return sum(sum(table.at(load, slew) for table in side) / len(side)
                   for side in sides if side) / 2


@dataclasses.dataclass(frozen=True)
class Library:
    """Cells by name, and the supply, V."""

    name: str
    volts: float
    cells: dict[str, Cell]


def _parse(text: str) -> Group:
    tokens = _TOKEN.findall(_NOISE.sub(" ", text))
    root = Group("", [])
    stack, at = [root], 0
    while at < len(tokens):
        name = tokens[at]
        follows = tokens[at + 1] if at + 1 < len(tokens) else ""
        if name == "}":
            stack.pop()
            at += 1
        elif follows == ":":
            end = tokens.index(";", at)
            stack[-1].attributes[name] = [one.strip('"') for one in tokens[at + 2:end]]
            at = end + 1
        elif follows == "(":
            end = tokens.index(")", at)
            arguments = [one.strip('"') for one in tokens[at + 2:end] if one != ","]
            at = end + 1
            if at < len(tokens) and tokens[at] == "{":
                group = Group(name, arguments)
                stack[-1].groups.append(group)
                stack.append(group)
                at += 1
            else:
                stack[-1].attributes[name] = arguments
        else:
            at += 1
    return root


def _numbers(texts: list[str]) -> tuple[float, ...]:
    return tuple(float(one) for text in texts for one in text.replace(",", " ").split())


_FIRST = ("total_output_net_capacitance", "related_pin_transition")
"""Variables that a :class:`Table` has as its loads; any others are transitions."""
_NS = {"1ns": 1.0, "100ps": 0.1, "10ps": 0.01, "1ps": 0.001}
_PF = {"pf": 1.0, "ff": 0.001}


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Templates of tables by name; the units of time in ns and of capacitance in pF. That of energy
    is the capacitance's times V^2, so pJ are to it as pF."""

    templates: Mapping[str, Group]
    ns: float
    pf: float

    def table(self, group: Group, unit: float) -> Table:
        """The table in ``group``, with values in ``unit``."""
        known = self.templates.get(group.arguments[0] if group.arguments else "", Group("", []))
        indices = [_numbers(group.attributes.get(name, known.attributes.get(name, [])))
                   for name in ("index_1", "index_2")]
        many = bool(indices[1])  # without a template: load and transition, or transition alone
        names = [known.attributes.get(f"variable_{n}", [_FIRST[0] if many and n == 1 else ""])[0]
                 for n in (1, 2)]
        first, second = (tuple(at * (self.pf if name == _FIRST[0] else self.ns) for at in index)
                         for name, index in zip(names, indices, strict=True))
        rows = tuple(tuple(unit * value for value in _numbers([row]))
                     for row in group.attributes["values"])
        if not first:  # a scalar
            return Table((0.0,), (0.0,), rows)
        if not many:
            values = tuple(value for row in rows for value in row)
            return (Table(first, (0.0,), tuple((value,) for value in values))
                    if names[0] in _FIRST else Table((0.0,), first, (values,)))
        return (Table(first, second, rows) if names[0] in _FIRST
                else Table(second, first, tuple(zip(*rows, strict=True))))

    def energy(self, pin: Group) -> tuple[list[Table], list[Table]]:
        sides: tuple[list[Table], list[Table]] = ([], [])
        for power in pin.of("internal_power"):
            for side, kind in zip(sides, ("rise_power", "fall_power"), strict=True):
                side += [self.table(table, self.pf) for table in power.of(kind)]
        return sides

    def arcs(self, pin: Group) -> list[Arc]:
        def edges(timing: Group, *kinds: str) -> Edges:
            found = [next((self.table(table, self.ns) for table in timing.of(kind)), None)
                     for kind in kinds]
            return found[0], found[1]

        return [
            Arc(source, kind, timing.attributes.get("timing_sense", ["non_unate"])[0],
                edges(timing, "rise_constraint", "fall_constraint") if kind.startswith("setup")
                else edges(timing, "cell_rise", "cell_fall"),
                edges(timing, "rise_transition", "fall_transition"))
            for timing in pin.of("timing")
            for kind in timing.attributes.get("timing_type", ["combinational"])
            for text in timing.attributes.get("related_pin", []) for source in text.split()]

    def cell(self, group: Group) -> Cell:
        pins = {pin.arguments[0]: pin for pin in group.of("pin")}
        inputs = {name: {key: self.pf * pin.number(key, pin.number("capacitance"))
                         for key in ("capacitance", "rise_capacitance", "fall_capacitance")}
                  for name, pin in pins.items() if pin.attributes.get("direction") == ["input"]}
        flip_flop = next(group.of("ff"), None)
        state = flip_flop.attributes if flip_flop else {}
        return Cell(
            group.arguments[0], {name: loads["capacitance"] for name, loads in inputs.items()},
            {name: "".join(f"{part} " for part in pin.attributes["function"]).strip()
             for name, pin in pins.items() if "function" in pin.attributes},
            {name: self.energy(pin) for name, pin in pins.items()},
            group.number("cell_leakage_power"), " ".join(state.get("next_state", [])),
            " ".join(state.get("clocked_on", [])), tuple(flip_flop.arguments if flip_flop else ()),
            {name: self.arcs(pin) for name, pin in pins.items()},
            {name: (loads["rise_capacitance"], loads["fall_capacitance"])
             for name, loads in inputs.items()},
            {name: self.pf * pin.number("max_capacitance") for name, pin in pins.items()
             if name not in inputs and "max_capacitance" in pin.attributes})


def read_liberty(path: Path) -> Library:
    """The library in ``path``, in ns, V, pF and pJ; :class:`LibertyError` if its units are others
    than those, ps and fF."""
    library = next(_parse(path.read_text()).of("library"), None)
    if library is None:
        raise LibertyError(f"{path}: no library")
    attributes = library.attributes
    time, volts = (attributes.get(name, [usual])[0] for name, usual in (
        ("time_unit", "1ns"), ("voltage_unit", "1V")))
    load = attributes.get("capacitive_load_unit", ["1", "pf"])
    for name, is_known, wanted, given in (
            ("time_unit", time in _NS, "1ns or ps", time),
            ("voltage_unit", volts == "1V", "1V", volts),
            ("capacitive_load_unit", len(load) == 2 and load[1].lower() in _PF,
             "in pf or ff", load)):
        if not is_known:
            raise LibertyError(f"{path}: {name} must be {wanted}, not {given}")
    templates = {one.arguments[0]: one
                 for one in library.of("lu_table_template", "power_lut_template")}
    reader = _Reader(templates, _NS[time], float(load[0]) * _PF[load[1].lower()])
    cells = [reader.cell(group) for group in library.of("cell")]
    return Library(library.arguments[0], library.number("nom_voltage"),
                   {cell.name: cell for cell in cells})
