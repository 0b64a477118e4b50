"""Paths of a netlist between registers: the order to follow them in, names, the slowest."""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from .harness import HARNESS

__all__ = ["Names", "TimingPath", "block_of", "ordered", "slowest", "summary"]

_PART = re.compile(
    r"_(?:TRELLIS_FF|LUT4|PFUMX|L6MUX21|CCU2C)_.*|(?:\.\d+)+$|(?:\[\d+\])+$")


@dataclasses.dataclass(frozen=True)
class TimingPath:
    """The slowest path between two registers: ns, cells on it, names, nets from the first on."""

    ns: float
    levels: int
    start: str
    end: str
    nets: tuple[str, ...]


class Names:
    """What the bits of a netlist (as yosys writes it in JSON) are called, without their index."""

    def __init__(self, module: Mapping[str, Any]):
        self._names: dict[int, tuple[bool, int, str]] = {}
        for name, net in module["netnames"].items():
            rank = (bool(net.get("hide_name")) or "$" in name, len(name), name)
            for bit in net["bits"]:
                if isinstance(bit, int) and rank < self._names.get(bit, (True, 1 << 30, "")):
                    self._names[bit] = rank

    def __call__(self, bit: int) -> str:
        return self.plain(self._names[bit][2]) if bit in self._names else f"net {bit}"

    @staticmethod
    def plain(name: str) -> str:
        """A name without what yosys appends to it."""
        return _PART.sub("", name)


def ordered(before: Mapping[int, Sequence[tuple[Any, ...]]], known: Collection[int],
            ) -> Iterator[int]:
    """The keys of ``before`` that are not ``known``, each after the bits that its tuples begin
    with; :class:`ValueError` if they are a loop."""
    done, opened = set(known), set[int]()
    for goal in before:
        waiting = [goal]
        while waiting:
            bit = waiting[-1]
            missing = [] if bit in done else [
                source for source, *_ in before.get(bit, ()) if source not in done]
            if missing:
                if bit in opened:
                    raise ValueError("the gates have a loop without a flip-flop")
                opened.add(bit)
                waiting += missing
                continue
            waiting.pop()
            if bit not in done:
                done.add(bit)
                yield bit


def slowest(ends: Iterable[tuple[float, Any, str]], via: Mapping[Any, Any],
            name: Callable[[Any], str]) -> list[TimingPath]:
    """The slowest path to each end, slowest first.

    ``ends``: ns, node, name of the end. ``via``: the node before a node on the slowest way;
    ``name``: what it is called.
    """
    last: dict[str, tuple[float, Any]] = {}
    for ns, node, end in ends:
        last[end] = max(last.get(end, (-math.inf, node)), (ns, node))
    found = []
    for end, (ns, node) in last.items():
        nodes = [node]
        while nodes[-1] in via:
            nodes.append(via[nodes[-1]])
        names = tuple(map(name, reversed(nodes)))
        found.append(TimingPath(ns, len(nodes) - 1, names[0], end, names))
    return sorted(found, key=lambda one: -one.ns)


def block_of(cell: str, top: str, submodules: Collection[str]) -> str:
    """The submodule of ``top``, to two levels, that a cell's name is below.

    ``submodules``: names of instances, whatever they are in.
    """
    inside = re.sub(r"^\\?" + re.escape(top) + r"\.", "", cell)
    if inside == cell:
        return HARNESS
    levels = list(itertools.takewhile(lambda level: level in submodules, inside.split(".")))
    return ".".join(levels[:2]) or top.rpartition(".")[2]


def summary(paths: Sequence[TimingPath], most: int = 20) -> dict[str, Any]:
    """Of the slowest paths at most ``most``: ns, levels, from, to; and the frequency."""
    return {"ns": round(paths[0].ns, 2), "mhz": round(1000 / paths[0].ns, 1),
            "paths": [{"ns": round(one.ns, 2), "levels": one.levels, "from": one.start,
                       "to": one.end} for one in paths[:most]]}
