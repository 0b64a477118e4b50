"""A board: what its file says of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...config import ConfigError, Geometry
from ..core import MemoryBoard, block_ram_board, sdram_board
from ..sdram.part import SdramPart

__all__ = ["Board", "Pin"]

Pin = tuple[str, int] | tuple[str, int, str]
"""A resource of amaranth-boards: name, number, and of a group its subsignal."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """Parameters of a board's top.

    Parameters
    ----------
    name: on the command line. about: the board in a line.
    platform: of amaranth-boards, made when it is wanted.
    preset: configuration that fits. clock_hz: of the accelerator, from a PLL. baud: of the UART.
    uart, heartbeat, busy, error: pins. sdram: its part and resource, None: memory is block RAM.
    high: pins that are held at 1.
    """

    name: str
    about: str
    platform: Callable[[], Any] = field(repr=False)
    preset: str
    clock_hz: int
    baud: int = 3_000_000
    uart: Pin = ("uart", 0)
    heartbeat: Pin
    busy: Pin
    error: Pin
    sdram: SdramPart | None = None
    sdram_pins: Pin = ("sdram", 0)
    high: tuple[Pin, ...] = ()

    def inside(self, geometry: Geometry, clock_hz: int = 0) -> MemoryBoard:
        """All of the top that is no pin and no clock; ``clock_hz`` 0: the board's.

        :class:`ConfigError` if the experts do not fit the memory.
        """
        clock, need = clock_hz or self.clock_hz, geometry.total_bytes
        if self.sdram is None:
            beat = geometry.axi_bytes
            return block_ram_board(geometry, memory_bytes=-(-need // beat) * beat, clock_hz=clock,
                                   baud=self.baud)
        if need > self.sdram.size:
            raise ConfigError("model", f"{need:,} bytes of experts and rows",
                              f"at most {self.sdram.size:,} bytes, the memory of {self.name}")
        return sdram_board(geometry, self.sdram, clock_hz=clock, baud=self.baud)
