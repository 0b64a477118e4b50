"""The top of a board as a simulator: all of it but pads and PLL, up to the pins."""

import hashlib
import importlib.metadata
from pathlib import Path

import stmoe
from stmoe.boards.core import MemoryBoard
from stmoe.boards.tops import Board
from stmoe.config import AcceleratorConfig, Geometry
from stmoe.emit.netlist import build_netlist

from .. import verilator
from ..kept import keep
from .pins import RegisteredPins

__all__ = ["build_board", "rehearsed"]

MAIN = Path(__file__).parents[1] / "hdl" / "board_main.cpp"


def rehearsed(board: Board, config: AcceleratorConfig) -> MemoryBoard:
    """The inside of the top of ``board``, with registers at the pins of an SDRAM."""
    inside = board.inside(Geometry(config))
    if board.sdram is not None:
        inside.memory = RegisteredPins(inside.memory)
    return inside


def build_board(board: Board, config: AcceleratorConfig, cache: Path) -> Path:
    """The simulator of a board, built if it is not in ``cache``."""
    state = hashlib.sha256(f"{config.hash:016x} {board}".encode())
    root = Path(stmoe.__file__).parent
    for path in (*sorted(root.rglob("*.py")), *sorted(root.rglob("*.rdl")), MAIN,
                 MAIN.with_name("sdram_model.h"), *sorted(Path(__file__).parent.glob("*.py")),
                 Path(verilator.__file__)):
        state.update(path.read_bytes())
    version = importlib.metadata.version("verilator")
    state.update((importlib.metadata.version("amaranth") + version).encode())
    home = cache / "board" / f"{board.name}-{config.name}-{state.hexdigest()[:16]}"

    def make(scratch: Path) -> None:
        netlist = build_netlist(rehearsed(board, config), "board")
        (scratch / "board.v").write_text(netlist.verilog)
        flags = f"-std=c++20 -I{MAIN.parent}" + (" -DSDRAM_PINS" if board.sdram else "")
        verilator.compile_model(
            ["--top-module", "board", "-o", "board", "-CFLAGS", flags, str(MAIN),
             str(scratch / "board.v")],
            scratch, "Vboard", [], cache / "board" / f"runtime-{version}")

    keep(home, make)
    return home / "board"
