"""Place and route on ECP5: units put together, nextpnr, a bitstream, and where the time goes."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .harness import HARNESS
from .targets import FAMILIES, Part
from .tools import Progress, run_tool

__all__ = ["critical_path", "merge_script", "place_and_route", "timing", "timing_of"]


def merge_script(target: str, mapped: list[Path]) -> list[str]:
    """Commands that put mapped units together as ``netlist.json``, names as below the top."""
    return [f"read_verilog -lib -specify {' '.join(FAMILIES[target].library)}",
            *(f"read_rtlil {path}" for path in mapped), f"hierarchy -top {HARNESS}", "flatten",
            "opt_clean -purge", "blackbox =A:whitebox", "setattr -unset src",
            "write_json netlist.json"]


def place_and_route(home: Path, netlist: Path, part: Part, mhz: float, seed: int,
                    progress: Progress) -> None:
    """From ``netlist`` (JSON, a path from ``home``) to ``harness.bit`` and ``timing.json``."""
    run_tool("nextpnr-ecp5", [
        *part.nextpnr, "--json", str(netlist), "--textcfg", "harness.config",
        "--report", "timing.json", "--freq", f"{mhz:g}", "--seed", str(seed),
        "--lpf-allow-unconstrained", "--timing-allow-fail"], home, "nextpnr.log", progress)
    progress("packing the bitstream")
    run_tool("ecppack", ["--compress", "--input", "harness.config", "--bit", "harness.bit"],
             home, "ecppack.log")


def timing_of(home: Path, top: str) -> dict[str, Any]:
    """What :func:`place_and_route` found in ``home``, cells named as below ``top``."""
    return timing(json.loads((home / "timing.json").read_text()), top)


def _block(cell: str, top: str) -> str:
    """The submodule, to two levels, that a cell's name is below."""
    inside = re.sub(r"^\\?" + re.escape(top) + r"\.", "", cell)
    if inside == cell:
        return HARNESS
    levels = [level for level in re.split(r"[.$]", inside) if level]
    return ".".join(levels[:2])


def critical_path(path: list[Mapping[str, Any]], top: str) -> dict[str, Any]:
    """Delay of a path of nextpnr's report in ns: whole, of routing, by block it goes through."""
    blocks: dict[str, float] = {}
    for segment in path:
        cell = segment["from" if segment["type"] != "setup" else "to"]["cell"]
        block = _block(cell, top)
        blocks[block] = blocks.get(block, 0.0) + segment["delay"]
    total = sum(segment["delay"] for segment in path)
    return {
        "ns": round(total, 3),
        "routing_ns": round(sum(s["delay"] for s in path if s["type"] == "routing"), 3),
        "levels": sum(s["type"] == "logic" for s in path),
        "from": path[0]["from"]["cell"], "to": path[-1]["to"]["cell"],
        "blocks": {name: round(ns, 3) for name, ns in blocks.items()}}


def timing(report: Mapping[str, Any], top: str) -> dict[str, Any]:
    """Fmax in MHz, the critical path, and resources used, from nextpnr's report."""
    clock, fmax = min(report["fmax"].items(), key=lambda item: item[1]["achieved"])
    found = {"fmax_mhz": round(fmax["achieved"], 2), "asked_mhz": fmax["constraint"],
             "used": {name: dict(use) for name, use in report["utilization"].items()
                      if use["used"]}}
    for one in report["critical_paths"]:
        if one["from"] == one["to"] == f"posedge {clock}":
            found["critical_path"] = critical_path(one["path"], top)
    return found
