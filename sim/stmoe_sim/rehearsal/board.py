"""The board that is rehearsed on: block RAM, one bit of which may be stuck; its simulator."""

import hashlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In

import stmoe
from stmoe.boards.core import BlockRamBoard
from stmoe.config import AcceleratorConfig, Geometry
from stmoe.emit.netlist import build_netlist

from .. import verilator
from ..kept import keep

__all__ = ["BoardSettings", "RehearsalBoard", "build_board"]

MAIN = Path(__file__).parents[1] / "hdl" / "board_main.cpp"


@dataclass(frozen=True, kw_only=True)
class BoardSettings:
    """What a board top fixes: expert memory in bytes, clock and line in Hz."""

    memory_bytes: int
    clock_hz: int = 25_000_000
    baud: int = 3_000_000


class RehearsalBoard(BlockRamBoard):
    """A :class:`BlockRamBoard` whose memory has, at choice, stuck bits; else the same.

    Parameters
    ----------
    geometry: Geometry. settings: of the board.

    Members
    -------
    stuck_word: number of the beat. stuck_mask, stuck_value: which of its bits read as what.
    """

    def __init__(self, geometry: Geometry, settings: BoardSettings):
        c = geometry.config
        super().__init__(
            geometry, memory_bytes=settings.memory_bytes, clock_hz=settings.clock_hz,
            baud=settings.baud, extra={
                "stuck_word": In(32), "stuck_mask": In(c.axi_data_bits),
                "stuck_value": In(c.axi_data_bits)})

    def attach(self, m: Module) -> None:
        """Between core and memory: where the word is written, its stuck bits are what they are."""
        whole, ram = self.core.memory, self.ram
        size = (self.core.geometry.axi_bytes).bit_length() - 1
        for name in ("ar", "r", "aw", "b"):
            source, sink = getattr(whole, name), getattr(ram.axi, name)
            if name in ("r", "b"):
                source, sink = sink, source
            m.d.comb += [sink.payload.eq(source.payload), sink.valid.eq(source.valid),
                         source.ready.eq(sink.ready)]
        m.d.comb += [ram.axi.w.payload.eq(whole.w.payload), ram.axi.w.valid.eq(whole.w.valid),
                     whole.w.ready.eq(ram.axi.w.ready)]
        word = Signal(32)
        with m.If(whole.aw.valid & whole.aw.ready):
            m.d.sync += word.eq(whole.aw.payload.addr >> size)
        with m.If(whole.w.valid & whole.w.ready):
            m.d.sync += word.eq(word + 1)
        with m.If(word == self.stuck_word):
            m.d.comb += ram.axi.w.payload.data.eq(
                (whole.w.payload.data & ~self.stuck_mask) | (self.stuck_value & self.stuck_mask))


def build_board(config: AcceleratorConfig, settings: BoardSettings, cache: Path) -> Path:
    """The simulator of a board, built if it is not in ``cache``."""
    state = hashlib.sha256(f"{config.hash:016x} {settings}".encode())
    sources = [*sorted(Path(stmoe.__file__).parent.rglob("*.py")),
               *sorted(Path(stmoe.__file__).parent.rglob("*.rdl")), MAIN, Path(__file__),
               Path(verilator.__file__)]
    for path in sources:
        state.update(path.read_bytes())
    version = importlib.metadata.version("verilator")
    state.update((importlib.metadata.version("amaranth") + version).encode())
    home = cache / "board" / f"{config.name}-{state.hexdigest()[:16]}"

    def make(scratch: Path) -> None:
        netlist = build_netlist(RehearsalBoard(Geometry(config), settings), "board")
        (scratch / "board.v").write_text(netlist.verilog)
        verilator.compile_model(
            ["--top-module", "board", "-o", "board", "-CFLAGS", "-std=c++20", str(MAIN),
             str(scratch / "board.v")],
            scratch, "Vboard", [], cache / "board" / f"runtime-{version}")

    keep(home, make)
    return home / "board"
