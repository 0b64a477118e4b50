"""The emitted netlist cut into units, each synthesised once however often it occurs."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Unit", "instance_counts", "split_units", "stub", "submodules",
           "without_zeros"]

_MODULE = re.compile(r"^(?:attribute [^\n]*\n)*module \\(\S+)\n.*?^end$", re.M | re.S)
_CELL = re.compile(r"^  cell \\(\S+) \\(\S+)$", re.M)
_PORT = re.compile(r"^(?:  attribute [^\n]*\n)*  wire [^\n]*(?:input|output) \d+ [^\n]*\n", re.M)
_ZEROS = re.compile(r"  cell \$meminit_v2 [^\n]*\n(?:    [^\n]*\n)*?"
                    r"    connect \\DATA \d+'0+\n(?:    [^\n]*\n)*?  end\n")
WRITTEN_OUT = ("predictor",)
"""Blocks of the top whose own submodules are units too: the predictors are compared by size."""


@dataclass(frozen=True)
class Unit:
    """A module with what is below it but for other units, of which only the ports are there.

    Attributes
    ----------
    name: of the module. text: RTLIL. uses: other units, and how many instances it has of each.
    path: instance below the top that it is named after in reports; a kind, if there are several.
    """

    name: str
    text: str
    uses: Mapping[str, int]
    path: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def without_zeros(text: str) -> str:
    """Drop initial contents that are zeros alone: megabytes that no resource depends on."""
    return _ZEROS.sub("", text)


def stub(text: str) -> str:
    """The first module of ``text`` with its ports alone, a black box."""
    module = _MODULE.search(text)
    assert module
    ports = "".join(_PORT.findall(module[0]))
    return f"attribute \\blackbox 1\nmodule \\{module[1]}\n{ports}end\n"


def split_units(rtlil: str, top: str = "stmoe",
                written_out: Sequence[str] = WRITTEN_OUT) -> dict[str, Unit]:
    """Units of a netlist as :func:`stmoe.emit.emit_rtlil` writes it, the top first.

    Units are the top, its submodules, those of ``written_out``, and whatever occurs more than once.
    """
    modules = {match[1]: match[0].replace("attribute \\top 1\n", "") + "\n"
               for match in _MODULE.finditer(without_zeros(rtlil))}
    cells = {name: [(kind, instance) for kind, instance in _CELL.findall(text) if kind in modules]
             for name, text in modules.items()}
    occurrences = Counter(kind for inside in cells.values() for kind, _ in inside)
    paths = {top: "top", **{kind: instance for kind, instance in cells[top]}}
    for block in written_out:
        for kind, instance in cells.get(f"{top}.{block}", ()):
            paths[kind] = f"{block}.{instance}"
    for kind, times in occurrences.items():
        if times > 1:
            paths[kind] = kind.removeprefix(f"{top}.")

    def unit(name: str) -> Unit:
        inside, waiting, uses = [], [name], Counter[str]()
        while waiting:
            here = waiting.pop(0)
            inside.append(modules[here])
            for kind, _ in cells[here]:
                if kind in paths:
                    uses[kind] += 1
                else:
                    waiting.append(kind)
        stubs = [stub(modules[kind]) for kind in uses]
        return Unit(name=name, text="".join(inside + stubs), uses=uses, path=paths[name])

    units: dict[str, Unit] = {}
    waiting = [top]
    while waiting:
        name = waiting.pop(0)
        if name not in units:
            units[name] = unit(name)
            waiting += units[name].uses
    return units


def submodules(units: Mapping[str, Unit]) -> set[str]:
    """Names of all instances of modules, without what they are in."""
    return {instance for unit in units.values() for _, instance in _CELL.findall(unit.text)}


def instance_counts(units: Mapping[str, Unit], top: str = "stmoe") -> dict[str, int]:
    """How often each unit occurs in the whole design."""
    counts: Counter[str] = Counter()

    def visit(name: str, times: int) -> None:
        counts[name] += times
        for kind, inside in units[name].uses.items():
            if kind in units:
                visit(kind, times * inside)

    visit(top, 1)
    return dict(counts)
