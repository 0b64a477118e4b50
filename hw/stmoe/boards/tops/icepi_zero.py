"""Icepi Zero: ECP5, 32 MiB of SDRAM, UART over an FT231X, which goes to 3 Mbaud."""

from typing import Any

from ..sdram.part import SDRAM_256M
from .board import Board


def platform() -> Any:
    from amaranth_boards.icepi_zero import IcepiZero1_3Platform
    return IcepiZero1_3Platform()


BOARDS = (Board(
    name="icepi-zero", about="Icepi Zero 1.3 with LFE5U-25F, 32 MiB of SDRAM",
    platform=platform, preset="board-small", clock_hz=40_000_000, sdram=SDRAM_256M,
    heartbeat=("led", 0), busy=("led", 1), error=("led", 2)),)
