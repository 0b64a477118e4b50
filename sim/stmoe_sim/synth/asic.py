"""Mapping to a library of standard cells, with memories as macros of a simple model."""

import dataclasses
import hashlib
import math
import os
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from stmoe.config import ConfigError

from .gates import FLIP_FLOP, REGISTER_WORDS, instances
from .liberty import Cell, Library, read_liberty
from .synthesis import Result

__all__ = ["DEFAULT_PACKAGE", "Cells", "default_liberty", "macro", "row", "script",
           "sram_energy", "sram_timing", "within"]

DEFAULT_PACKAGE = "qflow-tech-osu018"
INSIDE = Path("usr/share/qflow/tech/osu018/osu018_stdcells.lib")
DEFAULT_NM = 180
LOAD = 4
"""Of the weakest buffer's inputs, what abc is told that each output of a unit drives."""


def default_liberty(cache: Path) -> Path:
    """The OSU 180 nm library of Debian: installed, or fetched into the cache by apt-get."""
    for place in (Path("/") / INSIDE, cache / "synth" / DEFAULT_PACKAGE / INSIDE):
        if place.exists():
            return place
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise ConfigError("--liberty", None, f"a file: there is no {DEFAULT_PACKAGE} here, and no "
                                             "apt-get to fetch it")
    with tempfile.TemporaryDirectory() as scratch:
        fetched = subprocess.run(["apt-get", "download", DEFAULT_PACKAGE], cwd=scratch,
                                 capture_output=True, text=True)
        packages = list(Path(scratch).glob("*.deb"))
        if fetched.returncode or not packages:
            raise ConfigError("--liberty", None, f"a file: apt-get cannot fetch {DEFAULT_PACKAGE}")
        home = cache / "synth" / DEFAULT_PACKAGE
        home.mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg", "-x", str(packages[0]), str(home)], check=True)
    return home / INSIDE


@dataclasses.dataclass(frozen=True)
class Cells:
    """Files of a library in the cache, as seen from a unit's folder there.

    Attributes
    ----------
    liberty: the library. constraints: for abc, that it buffers what drives many; None if the
    library has no buffer with delays.
    """

    liberty: Path
    constraints: Path | None


def within(cache: Path, liberty: Path) -> Cells:
    """A copy of the library in the cache.

    yosys from WebAssembly does not see every folder of the machine, but its own surroundings.
    """
    def put(text: bytes, kind: str) -> Path:
        name = f"{liberty.stem}-{hashlib.sha256(text).hexdigest()[:16]}.{kind}"
        if not (folder / name).exists():
            scratch = folder / f"{name}.{os.getpid()}"
            scratch.write_bytes(text)
            scratch.rename(folder / name)
        return Path("..") / name

    folder = cache / "synth" / "asic"
    folder.mkdir(parents=True, exist_ok=True)
    buffer = weakest_buffer(read_liberty(liberty))
    return Cells(put(liberty.read_bytes(), "lib"), None if buffer is None else put(
        f"set_driving_cell {buffer.name}\n"
        f"set_load {1000 * LOAD * sum(buffer.inputs.values()):g} [all_outputs]\n".encode(),
        "constr"))


def weakest_buffer(library: Library) -> Cell | None:
    """The buffer with the least input capacitance, of those that have delays."""
    buffers = [cell for cell in library.cells.values() if cell.is_buffer]
    return min(buffers, key=lambda cell: sum(cell.inputs.values()), default=None)


def script(unit: str, cells: Cells) -> list[str]:
    """Commands of yosys from ``unit.il`` to ``mapped.il`` and ``mapped.v`` of a library.

    Memories of more than ``REGISTER_WORDS`` words with at most two ports stay, as macros; the
    others become flip-flops.
    """
    plain, liberty = "opt -nodffe -nosdff", cells.liberty
    buffers = f" -constr {cells.constraints}" if cells.constraints else ""
    few = f"t:$mem_v2 r:SIZE<={REGISTER_WORDS} %i"
    return [
        "read_rtlil unit.il", f"hierarchy -top {unit}",
        "proc", "flatten", plain, "wreduce", "opt_clean",
        "synth -run coarse:fine",
        "memory_map t:$mem_v2 r:WR_PORTS=0 %i",
        f"memory_map {few}", "memory_map t:$mem_v2 r:RD_PORTS>1 %i",
        "dump -m -o memories.il t:$mem_v2",
        f"{plain} -undriven", "techmap", "simplemap", plain,
        f"dfflegalize -cell {FLIP_FLOP} 01", "opt_expr", "opt_clean",
        f"dfflibmap -liberty {liberty}", f"abc -liberty {liberty}{buffers}",
        "opt_clean",
        "select -module " + unit, "write_verilog -noattr -selected mapped.v",
        "write_rtlil -selected mapped.il", "select -clear",
        f"tee -q -o stat.json stat -json -liberty {liberty}"]


@cache
def _model() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).with_name("sram.toml")).read_text())


def _between(points: Sequence[tuple[float, float]], capacity: float) -> float:
    """The value at a capacity in bytes: points on logarithmic scales, the last segments beyond."""
    logs = [(math.log(size), math.log(value)) for size, value in points]
    at = math.log(capacity)
    upper = next((i for i in range(1, len(logs)) if at <= logs[i][0]), len(logs) - 1)
    (x0, y0), (x1, y1) = logs[upper - 1:upper + 1]
    return math.exp(y0 + (y1 - y0) * (at - x0) / (x1 - x0))


def sram_energy() -> list[tuple[int, float]]:
    """Bytes of a macro at the model's node, and pJ of 64 bits read or written."""
    return [(size, pj) for size, pj in _model()["energy"]]


def macro(words: int, width: int, nm: float) -> dict[str, float]:
    """Area (um2) and energy of a read or write of the whole word (pJ) of an SRAM at a node.

    The model is that of ``sram.toml``: bits at 45 nm by published CACTI results, energy of 64 bits
    interpolated over capacity on logarithmic scales, both scaled to ``nm``.
    """
    model = _model()
    scale = nm / model["nm"]
    energy = _between(model["energy"], max(1, words * width / 8)) * width / 64
    return {"area": words * width * model["bit_um2"] * scale**2, "pj": energy * scale**2}


def sram_timing(words: int, width: int, nm: float) -> dict[str, Any]:
    """Times (ns) and capacitances (pF) of an SRAM at a node, scaled with it.

    ``access``: from the clock, or from the address; ``setup``; ``slews``: of the output at
    ``loads``, as liberty lists them; ``pin_pf``, ``clock_pf``: of an input.
    """
    model, scale = _model()["timing"], nm / _model()["nm"]
    capacity = max(1, words * width / 8)
    access = _between(model["access"], capacity)
    return {"access": access * scale, "setup": model["setup"] * scale,
            "loads": ", ".join(f"{load * scale:g}" for load, _ in model["slew"]),
            "slews": ", ".join(f"{slew * scale:g}" for _, slew in model["slew"]),
            "pin_pf": model["pin_pf"] * scale, "clock_pf": model["clock_pf"] * scale}


def row(result: Result, memories: str, nm: float = DEFAULT_NM) -> dict[str, Any]:
    """Figures of a unit: cells and their area, macros and theirs, in um2."""
    found = [one for one in instances(memories) if one["WR_PORTS"]]
    macros = [macro(one["SIZE"], one["WIDTH"], nm) for one in found]
    return {
        "cells": sum(times for kind, times in result.cells.items() if not kind.startswith("$")),
        "area_cells": result.area, "sram_bits": sum(one["SIZE"] * one["WIDTH"] for one in found),
        "macros": len(found), "area_sram": sum(one["area"] for one in macros),
        "area": result.area + sum(one["area"] for one in macros)}
