"""Mapping to a library of standard cells, with memories as macros of a simple model."""

import hashlib
import math
import shutil
import subprocess
import tempfile
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from stmoe.config import ConfigError

from .gates import FLIP_FLOP, REGISTER_WORDS, instances
from .synthesis import Result

__all__ = ["DEFAULT_PACKAGE", "default_liberty", "macro", "row", "script", "sram_energy",
           "within"]

DEFAULT_PACKAGE = "qflow-tech-osu018"
INSIDE = Path("usr/share/qflow/tech/osu018/osu018_stdcells.lib")
DEFAULT_NM = 180


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
        subprocess.run(["dpkg", "-x", str(packages[0]), str(home)], check=True)
    return home / INSIDE


def within(cache: Path, liberty: Path) -> Path:
    """A copy of the library in the cache, as seen from a unit's folder there.

    yosys from WebAssembly does not see every folder of the machine, but its own surroundings.
    """
    text = liberty.read_bytes()
    name = f"{liberty.stem}-{hashlib.sha256(text).hexdigest()[:16]}.lib"
    folder = cache / "synth" / "asic"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text)
    return Path("..") / name


def script(unit: str, liberty: Path) -> list[str]:
    """Commands of yosys from ``unit.il`` to cells of ``liberty``.

    Memories of more than ``REGISTER_WORDS`` words with at most two ports stay, as macros; the
    others become flip-flops.
    """
    plain = "opt -nodffe -nosdff"
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
        f"dfflibmap -liberty {liberty}", f"abc -liberty {liberty}", "opt_clean",
        "select -module " + unit, "write_verilog -noattr -selected mapped.v", "select -clear",
        f"tee -q -o stat.json stat -json -liberty {liberty}"]


@cache
def _model() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).with_name("sram.toml")).read_text())


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
    capacity = max(1, words * width / 8)
    points = [(math.log(size), math.log(pj)) for size, pj in model["energy"]]
    at = math.log(capacity)
    upper = next((i for i in range(1, len(points)) if at <= points[i][0]), len(points) - 1)
    (x0, y0), (x1, y1) = points[upper - 1:upper + 1]
    energy = math.exp(y0 + (y1 - y0) * (at - x0) / (x1 - x0)) * width / 64
    return {"area": words * width * model["bit_um2"] * scale**2, "pj": energy * scale**2}


def row(result: Result, memories: str, nm: float = DEFAULT_NM) -> dict[str, Any]:
    """Figures of a unit: cells and their area, macros and theirs, in um2."""
    found = [one for one in instances(memories) if one["WR_PORTS"]]
    macros = [macro(one["SIZE"], one["WIDTH"], nm) for one in found]
    return {
        "cells": sum(times for kind, times in result.cells.items() if not kind.startswith("$")),
        "area_cells": result.area, "sram_bits": sum(one["SIZE"] * one["WIDTH"] for one in found),
        "macros": len(found), "area_sram": sum(one["area"] for one in macros),
        "area": result.area + sum(one["area"] for one in macros)}
