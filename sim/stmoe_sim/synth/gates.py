"""What simple gates, memories and multipliers a unit has: targets ``generic`` and ``asic``."""

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

__all__ = ["CELLS", "FLIP_FLOP", "Figures", "count", "generic_script", "instances"]

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
        found: dict[str, Any] = {
            "logic_cells": sum(logic.values()), "nand2": logic_area / CELLS["$_NAND_"],
            "flip_flops": self.cells[FLIP_FLOP], "sram_bits": self.sram,
            "register_file_bits": self.registers, "multipliers": self.multipliers.total(),
            "multipliers_by_size": dict(sorted(self.multipliers.items())),
            "area_logic": logic_area, "area_flip_flops": CELLS[FLIP_FLOP] * self.cells[FLIP_FLOP],
            "area_register_files": self.register_area, "area_sram": SRAM_BIT * self.sram}
        found["area"] = sum(value for name, value in found.items() if name.startswith("area_"))
        return found


def generic_script(unit: str) -> list[str]:
    """Commands of yosys from ``unit.il`` to simple gates in ``mapped.il``, files of its folder."""
    gates = ",".join(name.strip("$_") for name in CELLS if name not in ("$_NOT_", FLIP_FLOP))
    plain = "opt -nodffe -nosdff"
    return [
        "read_rtlil unit.il", f"hierarchy -top {unit}",
        "proc", "flatten", plain, "wreduce", "opt_clean", "dump -m -o multipliers.il t:$mul",
        "synth -run coarse:fine", "dump -m -o memories.il t:$mem_v2",
        "memory_map t:$mem_v2 r:WR_PORTS=0 %i",  # what is never written is logic
        f"{plain} -undriven", "techmap", "simplemap", plain,
        f"dfflegalize -cell {FLIP_FLOP} 01", "opt_expr", "opt_clean",
        f"abc -g {gates} -script +strash;dc2;map", "opt_clean",
        f"select -module {unit}", "write_rtlil -selected mapped.il", "select -clear",
        "tee -q -o stat.json stat -json"]


def instances(dump: str) -> list[dict[str, int]]:
    """Whole-number parameters of every cell in a dump.

    ``CONSTANT`` is the number of inputs A and B that are constant.
    """
    found: list[dict[str, int]] = []
    for line in dump.splitlines():
        words = line.split()
        if words[:1] == ["cell"]:
            found.append({"CONSTANT": 0})
        elif words[:1] == ["parameter"] and words[-1].isdigit():
            found[-1][words[-2].strip("\\")] = int(words[-1])
        elif words[:2] in (["connect", "\\A"], ["connect", "\\B"]):
            found[-1]["CONSTANT"] += bool(re.fullmatch(r"\d+'[01]+", words[2]))
    return found


def count(cells: Mapping[str, int], memories: str, multipliers: str) -> Figures:
    """Figures of a unit: its cells without other units, and dumps of what they came from."""
    total = Figures(cells=Counter({kind: times for kind, times in cells.items()
                                   if kind not in ("$mem_v2", "$scopeinfo")}))
    for found in instances(memories):
        if found["WR_PORTS"]:
            total.memory(found["SIZE"], found["WIDTH"], found["RD_PORTS"], found["WR_PORTS"])
    for found in instances(multipliers):
        if not found["CONSTANT"]:
            total.multipliers[f"{found['A_WIDTH']}x{found['B_WIDTH']}"] += 1
    return total
