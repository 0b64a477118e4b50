"""Synthesis unit by unit, each kept under ``build/synth``, and what a configuration comes to."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import stmoe
from stmoe.config import AcceleratorConfig
from stmoe.emit import emit_rtlil

from ..kept import keep
from .tools import Progress, ToolError, run_tool, tool_version
from .units import Unit, instance_counts, split_units

__all__ = ["Block", "Result", "Script", "netlist_units", "synthesise"]

Script = Callable[[str], list[str]]


@dataclasses.dataclass(frozen=True)
class Result:
    """A synthesised unit: its folder, and its cells by kind without those of other units."""

    home: Path
    cells: Mapping[str, int]
    area: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Block:
    """A unit of a design, how often it occurs in it, and what it became."""

    unit: Unit
    times: int
    result: Result


def netlist_units(config: AcceleratorConfig, cache: Path, progress: Progress) -> dict[str, Unit]:
    """The units of a configuration's netlist, emitted once per configuration and generator."""
    state = hashlib.sha256(f"{config.hash:016x}".encode())
    root = Path(stmoe.__file__).parent
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.parent.name != "__pycache__":  # the registers are no Python
            state.update(path.read_bytes())
    home = cache / "synth" / "netlist" / f"{config.name}-{state.hexdigest()[:16]}"

    def make(scratch: Path) -> None:
        progress("emitting the netlist")
        (scratch / "stmoe.il").write_text(emit_rtlil(config))

    keep(home, make)
    return split_units((home / "stmoe.il").read_text())


def synthesise(units: Mapping[str, Unit], target: str, script: Script, cache: Path,
               progress: Callable[[int, int, str], None],
               wanted: Callable[[Unit], bool] = lambda unit: True) -> list[Block]:
    """Every unit by ``script``; those that are in the cache are not made again.

    ``script``: commands of yosys for a unit's name, which read ``unit.il`` and write ``stat.json``.
    ``progress`` is told how many units are done, of how many, and the step of the next one.
    """
    counts = instance_counts(units, next(iter(units)))
    blocks = []
    chosen = [unit for unit in units.values() if wanted(unit)]
    for done, unit in enumerate(chosen):
        def told(step: str, done: int = done, path: str = unit.path) -> None:
            progress(done, len(chosen), f"{path}: {step}")
        result = _one(unit, target, script(unit.name), cache, told)
        blocks.append(Block(unit, counts[unit.name], result))
    progress(len(chosen), len(chosen), "")
    return blocks


def _one(unit: Unit, target: str, commands: list[str], cache: Path, progress: Progress) -> Result:
    key = hashlib.sha256("\n".join([unit.text, *commands, tool_version("yosys")]).encode())
    name = unit.path.replace("/", ".")
    home = cache / "synth" / target / f"{name}-{key.hexdigest()[:16]}"

    def run(scratch: Path, commands: list[str]) -> None:
        (scratch / "unit.ys").write_text("\n".join(commands) + "\n")
        run_tool("yosys", ["-s", "unit.ys"], scratch, "yosys.log", progress)

    def make(scratch: Path) -> None:
        progress("starting")
        began = time.monotonic()
        (scratch / "unit.il").write_text(unit.text)
        try:
            run(scratch, commands)
        except ToolError:  # abc9 of the WebAssembly package dies of some units, without a word
            other = [text.replace("synth_ecp5 ", "synth_ecp5 -dff ") for text in commands]
            if other == commands:
                raise
            progress("again, with flip-flops passed through abc9")
            run(scratch, other)
        (scratch / "seconds").write_text(f"{time.monotonic() - began:.1f}")

    keep(home, make)
    stat = json.loads((home / "stat.json").read_text())
    module = next(of for name, of in stat["modules"].items() if name.lstrip("\\") == unit.name)
    cells = {kind.lstrip("\\"): _number(times) for kind, times in
             {**module.get("num_cells_by_type", {}),
              **module.get("num_submodules_by_type", {})}.items()}
    return Result(home, {kind: times for kind, times in cells.items() if kind not in unit.uses},
                  float(module.get("area", 0.0)), float((home / "seconds").read_text()))


def _number(value: Any) -> int:
    """A count of ``stat -json``, which with areas is an object."""
    return int(value["count"] if isinstance(value, dict) else value)
