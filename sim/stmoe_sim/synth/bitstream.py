"""``stmoe bitstream``: from a configuration to the file that a board is loaded with."""

import hashlib
import re
from functools import partial
from pathlib import Path
from typing import Any

import stmoe
from stmoe.boards.tops import Board
from stmoe.boards.tops.top import INSIDE, BoardTop
from stmoe.config import AcceleratorConfig, Geometry
from stmoe.emit.netlist import build_rtlil

from ..kept import keep
from .flow import Steps, check_fit, least
from .place import ROUTER, merge_script, place_and_route, placer_for, timing_of
from .synthesis import Block, synthesise
from .targets import RESOURCES, Part, part, resources, script
from .tools import ToolError, run_tool, tool_version
from .units import Unit, split_units, stub, submodules

__all__ = ["bitstream", "nextpnr_part"]

TOP = "top"
TARGET = "ecp5"
WRITTEN_OUT = ("core", "core.accelerator", "core.accelerator.predictor", "core.link.engine",
               "memory")  # abc9 of yosys 0.70 fails an assertion on an SDRAM controller as a whole
PADS = re.compile(r"TRELLIS_IO|EHXPLLL|[IO]DDRX1F")
"""Cells of the top that are no look-up tables, multipliers or memories."""
SOURCE = re.compile(r"^ *attribute \\src .*\n", re.M)  # paths of this machine


def nextpnr_part(device: str, package: str, speed: str) -> list[str]:
    """Arguments by which nextpnr knows a part of amaranth-boards, as LFE5UM5G-85F, BG381, 8."""
    kind, _, size = device.removeprefix("LFE5U").lower().rpartition("-")
    kinds = {"": "", "m": "um-", "m5g": "um5g-"}
    packages = {"BG": "CABGA", "MG": "CSFBGA"}
    return [f"--{kinds[kind]}{size.rstrip('f')}k", "--package",
            packages[package[:2]] + package[2:], "--speed", speed]


def _sources() -> Any:
    """Digest of the generator."""
    state = hashlib.sha256()
    root = Path(stmoe.__file__).parent
    for path in (*sorted(root.rglob("*.py")), *sorted(root.rglob("*.rdl"))):
        state.update(path.read_bytes())
    return state


def _netlist(board: Board, config: AcceleratorConfig, clock_hz: int, cache: Path,
             steps: Steps) -> tuple[dict[str, Unit], str, Path]:
    """Units of what is inside, RTLIL of the pins around it, and the folder with ``top.lpf``."""
    try:
        platform = board.platform()
    except ModuleNotFoundError as error:
        raise ToolError(f"{error.name} is not installed; pip install 'stmoe[boards]' brings it"
                        ) from None
    state = _sources()
    state.update(f"{config.hash:016x} {board} {clock_hz}".encode())
    home = cache / "synth" / "netlist" / f"{board.name}-{state.hexdigest()[:16]}"

    def make(scratch: Path) -> None:
        steps(0, 0, "emitting the netlist")
        inside = board.inside(Geometry(config), clock_hz)
        (scratch / f"{INSIDE}.il").write_text(build_rtlil(inside, INSIDE))
        plan = platform.prepare(BoardTop(board, inside, clock_hz), TOP)
        for name in (f"{TOP}.il", f"{TOP}.lpf"):
            text = plan.files[name]
            text = text if isinstance(text, str) else text.decode()
            (scratch / name).write_text(SOURCE.sub("", text))
    keep(home, make)
    units = split_units((home / f"{INSIDE}.il").read_text(), INSIDE, WRITTEN_OUT)
    return units, (home / f"{TOP}.il").read_text(), home


def _row(block: Block) -> dict[str, Any]:
    cells = {kind: count for kind, count in block.result.cells.items()
             if block.unit.name != TOP or not PADS.fullmatch(kind)}
    return {"block": block.unit.path, "count": block.times, "seconds": block.result.seconds,
            **resources(TARGET, cells)}


def bitstream(board: Board, config: AcceleratorConfig, cache: Path, *, clock_hz: int = 0,
              seed: int = 1, steps: Steps = lambda done, of, step: None) -> dict[str, Any]:
    """Make the bitstream of ``board`` with ``config``; the report as plain data.

    Units that were made before are kept, and so is everything behind them. ``clock_hz`` 0: the
    board's. ``report["timing_met"]``: whether the clock is reached; the bitstream is there anyway.
    :class:`~stmoe_sim.synth.flow.Unfit` before place and route if the part is too small.
    """
    clock = clock_hz or board.clock_hz
    units, around, home = _netlist(board, config, clock, cache, steps)
    platform = board.platform()
    fitted: Part = part("LFE5U-" + platform.device.rpartition("-")[2], TARGET)
    check_fit(least(config), fitted, config.name)
    outer = Unit(name=TOP, path="pins", uses={INSIDE: 1},
                 text=around.replace("attribute \\top 1\n", "") + stub(units[INSIDE].text))
    blocks = [*synthesise(units, TARGET, partial(script, TARGET), cache, steps),
              *synthesise({TOP: outer}, TARGET, partial(script, TARGET), cache, steps)]
    rows = [_row(block) for block in blocks]
    total = {name: sum(row["count"] * row[name] for row in rows) for name in RESOURCES}
    check_fit(total, fitted, config.name)

    commands = merge_script(
        TARGET, [Path("..") / block.result.home.name / "mapped.il" for block in blocks], TOP)
    lpf = (home / f"{TOP}.lpf").read_text()
    key = hashlib.sha256("\n".join([*commands, lpf]).encode()).hexdigest()[:16]
    folder = cache / "synth" / TARGET / f"{board.name}-{config.name}-{key}"

    def merge(scratch: Path) -> None:
        steps(0, 0, "putting the units together")
        (scratch / "merge.ys").write_text("\n".join(commands) + "\n")
        (scratch / f"{TOP}.lpf").write_text(lpf)
        run_tool("yosys", ["-q", "-s", "merge.ys"], scratch, "yosys.log")
    keep(folder, merge)
    placer = placer_for(total, fitted)
    placed = folder / f"{clock / 1e6:g}-{seed}-{placer}-{ROUTER}"
    keep(placed, lambda scratch: place_and_route(
        scratch, Path("..") / "netlist.json",
        nextpnr_part(platform.device, platform.package, platform.speed), clock / 1e6, seed, placer,
        lambda step: steps(0, 0, step), Path("..") / f"{TOP}.lpf", top=TOP))
    timing = {"seed": seed, "bitstream": str(placed / f"{TOP}.bit"),
              **timing_of(placed, "inside", submodules(units))}
    return {
        "target": board.name, "board": board.name, "config": config.name,
        "hash": f"{config.hash:016x}",
        "part": {"name": platform.device, **{name: getattr(fitted, name) for name in RESOURCES}},
        "clock_hz": clock, "baud": board.baud, "blocks": rows, "total": total,
        "place": timing, "timing_met": timing["fmax_mhz"] * 1e6 >= clock,
        "log": str(placed / "nextpnr.log"),
        "tools": {tool: tool_version(tool) for tool in ("yosys", "nextpnr-ecp5", "ecppack")}}
