"""Timing of a whole netlist of a liberty library: our estimate, and OpenSTA where there is one."""

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from . import library_timing, opensta
from .asic import DEFAULT_NM
from .buffering import buffered
from .harness import HARNESS
from .liberty import read_liberty
from .macros import as_cells
from .paths import TimingPath, block_of, summary
from .tools import available, tool_version

__all__ = ["WIRE_PF", "by_block", "timing"]

WIRE_PF = 0.01
"""Of the wire to each pin that a net drives, at 180 nm: 50 um of 0.2 fF/um, an assumption; at other
nodes by their feature size."""


def by_block(paths: Sequence[TimingPath], top: str, submodules: Collection[str],
             ) -> list[dict[str, Any]]:
    """The slowest path into each block below ``top``, to two levels, slowest first."""
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        block = block_of(path.end, top, submodules)
        if block not in found:
            found[block] = {"block": block, "ns": round(path.ns, 2), "levels": path.levels,
                            "from": path.start, "to": path.end}
    return list(found.values())


def timing(home: Path, liberty: Path, nm: float, period: float, top: str,
           submodules: Collection[str], progress: Callable[[str], None]) -> dict[str, Any]:
    """Of the netlist in ``home``: by OpenSTA if it is installed, else by our own estimate.

    Both see the same cells, the same ``buffers`` added to nets between units and to memories, the
    same models of memories and the same wire load. With OpenSTA, whose
    script, netlist and report are left in ``home``, ``estimate_ns`` is what ours says, and
    ``estimate_differs_ns`` the greatest difference of any of the ``ends``.
    ``period``: ns, what OpenSTA's slack is against; ``top``, ``submodules``: as for
    :func:`~stmoe_sim.synth.paths.block_of`. ``LibertyError`` if the library has no delays.
    """
    module = json.loads((home / "netlist.json").read_text())["modules"][HARNESS]
    wire_pf = WIRE_PF * nm / DEFAULT_NM
    gates: Sequence[library_timing.Gate]
    gates, macros = as_cells(module, nm, wire_pf)
    (home / "macros.lib").write_text(macros)
    cells = {**read_liberty(liberty).cells, **read_liberty(home / "macros.lib").cells}
    inside = len(gates)
    gates = buffered(gates, cells, wire_pf)
    paths = library_timing.worst(gates, module, cells, wire_pf)
    found: dict[str, Any] = {"by": "estimate", "wire_pf": wire_pf, "buffers": len(gates) - inside}
    if available("sta"):
        progress("OpenSTA")
        ours = {path.end: path.ns for path in paths}
        found["by"] = tool_version("sta")
        paths = opensta.worst(home, liberty, module, gates, cells, period)
        found |= {"estimate_ns": round(max(ours.values()), 2), "ends": len(paths),
                  "estimate_differs_ns": max(abs(path.ns - ours.get(path.end, 0.0))
                                             for path in paths)}
    return {**found, **summary(paths), "blocks": by_block(paths, top, submodules)}
