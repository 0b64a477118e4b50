"""Radiona ULX3S: ECP5, 32 MiB of SDRAM, UART over an FT231X, which goes to 3 Mbaud."""

from typing import Any

from ..sdram.part import SDRAM_256M
from .board import Board


def platform() -> Any:
    from amaranth_boards.ulx3s import ULX3S_85F_Platform
    return ULX3S_85F_Platform()


BOARDS = (Board(
    name="ulx3s-85f", about="ULX3S with LFE5U-85F, 32 MiB of SDRAM, USB1 is the host link",
    platform=platform, preset="board", clock_hz=37_500_000, sdram=SDRAM_256M,
    heartbeat=("led", 0), busy=("led", 1), error=("led", 2)),)
