"""The board that is rehearsed on: block RAM, one bit of which may be stuck; its simulator."""

import dataclasses
import hashlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

import stmoe
from stmoe.boards.block_ram import BlockRam
from stmoe.boards.core import MemoryBoard, block_ram_board, sdram_board
from stmoe.boards.sdram.part import SdramPart
from stmoe.boards.tops import Board
from stmoe.config import AcceleratorConfig, Geometry
from stmoe.emit.netlist import build_netlist

from .. import verilator
from ..kept import keep
from .pins import RegisteredPins

__all__ = ["BoardSettings", "build_board", "rehearsal_board"]

MAIN = Path(__file__).parents[1] / "hdl" / "board_main.cpp"


@dataclass(frozen=True, kw_only=True)
class BoardSettings:
    """What a board top fixes: expert memory in bytes, or its part; clock and line in Hz."""

    memory_bytes: int = 0
    sdram: SdramPart | None = None
    clock_hz: int = 25_000_000
    baud: int = 3_000_000

    @classmethod
    def of(cls, board: Board, geometry: Geometry) -> Self:
        """Those of the top of ``board``."""
        size = board.inside(geometry).core.memory_bytes
        return cls(memory_bytes=size, sdram=board.sdram, clock_hz=board.clock_hz, baud=board.baud)

    @property
    def part(self) -> dict[str, float]:
        """Arguments of the simulator: the part of SDRAM."""
        return dataclasses.asdict(self.sdram) if self.sdram else {}


class StuckMemory(wiring.Component):
    """Block RAM a word of which has, at choice, stuck bits: written, they are what they are.

    Parameters
    ----------
    ram: the memory.

    Members
    -------
    axi: of ``ram``. stuck_word: number of the beat. stuck_mask, stuck_value: which of its bits are
        stuck, and at what.
    """

    def __init__(self, ram: BlockRam):
        self.ram = ram
        super().__init__({"axi": In(ram.port), **stuck_pins(ram.port.data_bits)})

    def elaborate(self, platform):
        m = Module()
        ram = m.submodules.ram = self.ram
        wiring.connect(m, wiring.flipped(self.axi), ram.axi)
        word, size = Signal(32), (ram.port.data_bits // 8).bit_length() - 1
        with m.If(self.axi.aw.valid & self.axi.aw.ready):
            m.d.sync += word.eq(self.axi.aw.payload.addr >> size)
        with m.If(self.axi.w.valid & self.axi.w.ready):
            m.d.sync += word.eq(word + 1)
        with m.If(word == self.stuck_word):
            m.d.comb += ram.axi.w.payload.data.eq(
                (self.axi.w.payload.data & ~self.stuck_mask)
                | (self.stuck_value & self.stuck_mask))
        return m


def stuck_pins(data_bits: int) -> dict[str, wiring.Member]:
    """Which bits of which beat are stuck."""
    return {"stuck_word": In(32), "stuck_mask": In(data_bits), "stuck_value": In(data_bits)}


def rehearsal_board(geometry: Geometry, settings: BoardSettings) -> MemoryBoard:
    """The inside of a board's top, with registers at the pins of an SDRAM; block RAM has, at
    choice, stuck bits, SDRAM is outside."""
    if settings.sdram is not None:
        inside = sdram_board(geometry, settings.sdram, clock_hz=settings.clock_hz,
                             baud=settings.baud)
        return MemoryBoard(inside.core, RegisteredPins(inside.memory), inside.pins)
    inside = block_ram_board(geometry, memory_bytes=settings.memory_bytes,
                             clock_hz=settings.clock_hz, baud=settings.baud)
    return MemoryBoard(inside.core, StuckMemory(inside.memory),
                       stuck_pins(geometry.config.axi_data_bits))


def build_board(config: AcceleratorConfig, settings: BoardSettings, cache: Path) -> Path:
    """The simulator of a board, built if it is not in ``cache``."""
    state = hashlib.sha256(f"{config.hash:016x} {settings}".encode())
    sources = [*sorted(Path(stmoe.__file__).parent.rglob("*.py")),
               *sorted(Path(stmoe.__file__).parent.rglob("*.rdl")), MAIN,
               MAIN.with_name("sdram_model.h"), *sorted(Path(__file__).parent.glob("*.py")),
               Path(verilator.__file__)]
    for path in sources:
        state.update(path.read_bytes())
    version = importlib.metadata.version("verilator")
    state.update((importlib.metadata.version("amaranth") + version).encode())
    home = cache / "board" / f"{config.name}-{state.hexdigest()[:16]}"

    def make(scratch: Path) -> None:
        netlist = build_netlist(rehearsal_board(Geometry(config), settings), "board")
        (scratch / "board.v").write_text(netlist.verilog)
        verilator.compile_model(
            ["--top-module", "board", "-o", "board", "-CFLAGS",
             f"-std=c++20 -I{MAIN.parent}" + (" -DSDRAM_PINS" if settings.sdram else ""), str(MAIN),
             str(scratch / "board.v")],
            scratch, "Vboard", [], cache / "board" / f"runtime-{version}")

    keep(home, make)
    return home / "board"
