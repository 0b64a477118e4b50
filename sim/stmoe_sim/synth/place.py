"""Place and route on ECP5: units put together, nextpnr, a bitstream, and where the time goes."""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from .harness import HARNESS
from .paths import block_of
from .targets import FAMILIES, Part
from .tools import Progress, ToolError, run_tool

__all__ = ["ROUTER", "critical_path", "merge_script", "place_and_route", "placer_for", "timing_of"]

SPARSE = 0.4  # of a part's LUTs, up to which a design has been spread: 0.38 ended, 0.42 did not
SPREAD = 1000  # iterations of the static placer; what it has spread took at most 400
ROUTER = "router1"
ROUTED = 20  # arcs that are routed, for each of the design; what was routed took three at most
_SPREADING = re.compile(r"Info: iter=(?P<step>\d+) ")
_ARCS = re.compile(r"Info: Routing (?P<arcs>\d+) arcs")
_ROUTING = re.compile(r"Info: +(?P<step>\d+) \|(?: +\d+){2} \|(?: +\d+){2} \| +(?P<left>\d+)\|")


class NotSpread(RuntimeError):
    """The static placer comes to no end with a design."""


def merge_script(target: str, mapped: list[Path], top: str = HARNESS) -> list[str]:
    """Commands that put mapped units together as ``netlist.json``, names as below ``top``."""
    library = ([f"read_verilog -lib -specify {' '.join(FAMILIES[target].library)}"]
               if target in FAMILIES else [])
    return [*library, *(f"read_rtlil {path}" for path in mapped), f"hierarchy -top {top}",
            "flatten", "opt_clean -purge", "blackbox =A:whitebox", "setattr -unset src",
            "write_json netlist.json"]


def placer_for(used: Mapping[str, int], part: Part) -> str:
    """nextpnr's placer for a design that takes ``used`` of a part and whose pins are located.

    The static one spreads what leaves much of the part free, so that the router finds its way; the
    default one, heap, packs it. On a fuller part the static one itself comes to no end: more LUTs
    go on overlapping than it takes for done.
    """
    return "static" if used["lut"] < SPARSE * part.lut else "heap"


def place_and_route(home: Path, netlist: Path, part: Sequence[str], mhz: float, seed: int,
                    placer: str, progress: Progress, lpf: Path, *, top: str = HARNESS) -> None:
    """From ``netlist`` (JSON, a path from ``home``) to ``top``.bit and ``timing.json``.

    ``part``: arguments of nextpnr. ``placer``: of :func:`placer_for`. ``lpf``: where pins are, a
    path from ``home``; the static placer cannot do without. heap places what the static placer
    does not: it comes to no end, or dies of designs of a few cells. router1 comes to an end arc by
    arc; router2 leaves some wires that change places for good, and slower paths.
    :class:`ToolError` if a tool fails, or the router comes to no end.
    """
    def run(placer: str) -> None:
        try:
            run_tool("nextpnr-ecp5", [
                *part, "--json", str(netlist), "--textcfg", f"{top}.config",
                "--report", "timing.json", "--placer", placer, "--router", ROUTER,
                "--freq", f"{mhz:g}", "--seed", str(seed), "--lpf", str(lpf),
                "--timing-allow-fail"], home, "nextpnr.log", progress, patience(log, progress))
        except ToolError:
            if not ended_after_its_work(home, top):
                raise
    log = home / "nextpnr.log"
    try:
        run(placer)
    except (NotSpread, ToolError):
        if placer != "static" or "Info: Routing.." in log.read_text(errors="replace"):
            raise
        progress("the static placer does not place this: the default one instead")
        log.rename(home / "nextpnr-static.log")
        run("heap")
    for picture in home.glob("out_conc_density_*.csv"):  # the placer leaves one per iteration
        picture.unlink()
    progress("packing the bitstream")
    run_tool("ecppack", ["--compress", "--input", f"{top}.config", "--bit", f"{top}.bit"],
             home, "ecppack.log")


def ended_after_its_work(home: Path, top: str) -> bool:
    """Whether what nextpnr writes is there: 0.7 as PyPI has it, in WebAssembly, dies on its way
    out once it has placed with the static placer, the configuration and then the report written.
    """
    try:
        json.loads((home / "timing.json").read_text())
    except (OSError, ValueError):
        return False
    return (home / f"{top}.config").is_file()


def patience(log: Path, progress: Progress) -> Callable[[str], None]:
    """Watches lines of nextpnr's ``log``: :class:`NotSpread` or :class:`ToolError` at an iteration
    of the placer, or a routed arc, too many; ``progress`` is told how many arcs are left."""
    arcs = 0

    def watch(line: str) -> None:
        nonlocal arcs
        if (step := _SPREADING.match(line)) and int(step["step"]) >= SPREAD:
            raise NotSpread
        if whole := _ARCS.match(line):
            arcs = int(whole["arcs"])
        if step := _ROUTING.match(line):
            progress(f"routing: {step['left']} arcs left")
            if int(step["step"]) > ROUTED * arcs:
                raise ToolError(f"nextpnr-ecp5 does not route this: {step['left']} of {arcs} arcs "
                                f"are left after {step['step']} were routed; its log: {log}")
    return watch


def timing_of(home: Path, top: str, submodules: Collection[str]) -> dict[str, Any]:
    """Fmax in MHz, the critical path, and resources used, by what :func:`place_and_route` left in
    ``home``; cells are named as below ``top``, ``submodules`` as for :func:`critical_path`."""
    report = json.loads((home / "timing.json").read_text())
    clock, fmax = min(report["fmax"].items(), key=lambda item: item[1]["achieved"])
    found = {"fmax_mhz": round(fmax["achieved"], 2), "asked_mhz": fmax["constraint"],
             "used": {name: dict(use) for name, use in report["utilization"].items()
                      if use["used"]}}
    for one in report["critical_paths"]:
        if one["from"] == one["to"] == f"posedge {clock}":
            found["critical_path"] = critical_path(one["path"], top, submodules)
    return found


def critical_path(path: list[Mapping[str, Any]], top: str,
                  submodules: Collection[str]) -> dict[str, Any]:
    """Delay of a path of nextpnr's report in ns: whole, of routing, by block it goes through.

    ``submodules``: names of instances, whatever they are in.
    """
    blocks: dict[str, float] = {}
    for segment in path:
        cell = segment["from" if segment["type"] != "setup" else "to"]["cell"]
        block = block_of(cell, top, submodules)
        blocks[block] = blocks.get(block, 0.0) + segment["delay"]
    total = sum(segment["delay"] for segment in path)
    return {
        "ns": round(total, 3),
        "routing_ns": round(sum(s["delay"] for s in path if s["type"] == "routing"), 3),
        "levels": sum(s["type"] == "logic" for s in path),
        "from": path[0]["from"]["cell"], "to": path[-1]["to"]["cell"],
        "blocks": {name: round(ns, 3) for name, ns in blocks.items()}}
