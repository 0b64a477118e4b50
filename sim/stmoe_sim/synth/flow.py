"""``stmoe synth``: from a configuration to resources, area, frequency and a bitstream."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stmoe.config import AcceleratorConfig, Geometry

from ..kept import keep
from . import asic, asic_timing, gates, targets
from .estimate import estimate
from .harness import HARNESS, constraints, harness
from .place import ROUTER, merge_script, place_and_route, placer_for, timing_of
from .synthesis import Block, Script, netlist_units, synthesise
from .targets import RESOURCES, Part
from .tools import available, run_tool, tool_version
from .units import Unit, instance_counts, stub, submodules

__all__ = ["TARGETS", "Unfit", "check_fit", "least", "place_units", "synth"]

TARGETS = (*targets.FAMILIES, "generic", "asic")
Steps = Callable[[int, int, str], None]
NAMES = {"lut": "LUTs", "ff": "flip-flops", "dsp": "DSPs", "bram": "block RAMs"}


class Unfit(RuntimeError):
    """The design does not fit the part; the message says what is asked and what there is."""


def least(config: AcceleratorConfig) -> dict[str, int]:
    """What any netlist of ``config`` takes at least, in no time: DSPs, and bits of block RAM."""
    g = Geometry(config)
    bits = g.banks * (g.bank_words * g.word_bytes
                      + config.pes * g.bank_side_words * g.side_bytes) * 8
    return {"dsp": config.pes * config.rows * config.lanes, "bram_bits": bits}


def check_fit(asked: Mapping[str, int], part: Part, what: str) -> None:
    """:class:`Unfit` if ``asked`` is more than ``part`` has."""
    there = {**{name: getattr(part, name) for name in RESOURCES},
             "bram_bits": part.bram * part.bram_bits}
    over = [f"{asked[name]:,} {NAMES.get(name, 'bits of block RAM')} asked for, {there[name]:,} "
            "there" for name in there if asked.get(name, 0) > there[name]]
    if over:
        raise Unfit(f"{what} does not fit {part.name}: {'; '.join(over)}")


def synth(config: AcceleratorConfig, target: str, cache: Path, *, part: Part | None = None,
          place: bool = False, estimated: bool = False, mhz: float = 0, seed: int = 1,
          liberty: Path | None = None, nm: float = asic.DEFAULT_NM, chosen: Sequence[str] = (),
          steps: Steps = lambda done, of, step: None) -> dict[str, Any]:
    """Synthesise ``config``; the report as plain data. Units that were made before are kept.

    ``chosen``: blocks by the names of the report; none: all. ``place``: on to a bitstream, at
    ``mhz`` (0: the configuration's clock). :class:`Unfit` before that if it cannot be.
    ``estimated``: timing of the netlist that would be placed.
    """
    if part is not None and place and not chosen:
        check_fit(least(config), part, config.name)
    tools = {"yosys": tool_version("yosys")}
    if estimated and target == "asic" and available("sta"):
        tools["sta"] = tool_version("sta")  # one that cannot be run is said at once
    units = netlist_units(config, cache, lambda step: steps(0, 0, step))
    script: Script
    if target == "asic":
        assert liberty is not None
        cells = asic.within(cache, liberty)
        script = partial(asic.script, cells=cells)
    elif target == "generic":
        script = gates.generic_script
    else:
        script = partial(targets.script, target)
    if chosen:
        known = [unit.path for unit in units.values()]
        for name in chosen:
            if name not in known:
                raise targets.ConfigError("--block", name, f"one of {', '.join(known)}")
    top = "stmoe"
    if chosen:
        wanted = {unit.name for unit in units.values() if unit.path in chosen}
        if place or estimated:  # with what is inside it
            top, = wanted
            units = {name: units[name] for name in instance_counts(units, top)}
    blocks = synthesise(units, target, script, cache, steps,
                        lambda unit: place or estimated or not chosen or unit.path in chosen)
    report: dict[str, Any] = {
        "target": target, "config": config.name, "hash": f"{config.hash:016x}",
        "tools": tools,
        "blocks": [{"block": block.unit.path, "count": block.times,
                    "seconds": block.result.seconds, **_row(block, target, nm)}
                   for block in blocks]}
    report["total"] = _total(report["blocks"])
    if part is not None:
        report["part"] = {"name": part.name,
                          **{name: getattr(part, name) for name in RESOURCES}}
    name = config.name + "".join(f"-{block}" for block in chosen)
    if estimated:
        folder = put_together(name, target, units, blocks, cache, top, steps, script)
        steps(0, 0, "following every path")
        report["estimate"] = (
            asic_timing.timing(folder, liberty, nm, 1000 / (mhz or config.clock_mhz), top,
                               submodules(units), lambda step: steps(0, 0, step))
            if liberty is not None else estimate(folder / "netlist.json", HARNESS))
    if place and part is not None:
        check_fit(report["total"], part, config.name)
        report["place"] = place_units(name, part, mhz or config.clock_mhz, seed, units, blocks,
                                      report["total"], cache, top, steps)
    return report


def _row(block: Block, target: str, nm: float) -> dict[str, Any]:
    """Figures of one instance of a block, other units not counted."""
    result = block.result
    if target in targets.FAMILIES:
        return {**targets.resources(target, result.cells), "cells": dict(result.cells)}
    memories = (result.home / "memories.il").read_text()
    if target == "generic":
        multipliers = (result.home / "multipliers.il").read_text()
        return gates.count(result.cells, memories, multipliers).row()
    return asic.row(result, memories, nm)


def _total(rows: list[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for row in rows:
        for name, value in row.items():
            if name not in ("count", "seconds") and isinstance(value, int | float):
                total[name] = total.get(name, 0) + row["count"] * value
    return total


def put_together(name: str, target: str, units: Mapping[str, Unit], blocks: Sequence[Block],
                 cache: Path, module: str, steps: Steps, script: Script) -> Path:
    """The folder with ``netlist.json``, the units below ``module`` in the harness; ``script`` is
    that of the units."""
    top = units[module]
    around = harness(top.name, stub(top.text))
    outer = Unit(name=HARNESS, text=around + stub(top.text), uses={top.name: 1}, path=HARNESS)
    made = synthesise({HARNESS: outer}, target, script, cache, steps)
    homes = [block.result.home for block in (*made, *blocks)]
    commands = merge_script(target, [Path("..") / home.name / "mapped.il" for home in homes])
    key = hashlib.sha256("\n".join(commands).encode())
    folder = cache / "synth" / target / f"{name}-{key.hexdigest()[:16]}"

    def merge(scratch: Path) -> None:
        steps(0, 0, "putting the units together")
        (scratch / "merge.ys").write_text("\n".join(commands) + "\n")
        run_tool("yosys", ["-q", "-s", "merge.ys"], scratch, "yosys.log")

    keep(folder, merge)
    return folder


def place_units(name: str, part: Part, mhz: float, seed: int, units: Mapping[str, Unit],
                blocks: Sequence[Block], used: Mapping[str, int], cache: Path,
                module: str = "stmoe", steps: Steps = lambda done, of, step: None,
                ) -> dict[str, Any]:
    """Put the units below ``module``, which take ``used`` in all, together in the harness, place
    and route; what is there already is kept."""
    folder = put_together(name, part.target, units, blocks, cache, module, steps,
                          partial(targets.script, part.target))
    placer = placer_for(used, part)
    placed = folder / f"{part.name}-{mhz:g}-{seed}-{placer}-{ROUTER}"

    def place(scratch: Path) -> None:
        (scratch / "pins.lpf").write_text(constraints(part.pins))
        place_and_route(scratch, Path("..") / "netlist.json", part.nextpnr, mhz, seed,
                        placer, lambda step: steps(0, 0, step), Path("pins.lpf"))

    keep(placed, place)
    return {"seed": seed, "bitstream": str(placed / "harness.bit"),
            "tool": tool_version("nextpnr-ecp5"), **timing_of(placed, module, submodules(units))}
