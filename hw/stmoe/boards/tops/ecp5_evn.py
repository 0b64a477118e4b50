"""Lattice ECP5-5G evaluation board. Two jumpers make its FT2232H a UART: user manual, 6.2."""

from typing import Any

from .board import Board


def platform() -> Any:
    from amaranth_boards.ecp5_5g_evn import ECP55GEVNPlatform
    return ECP55GEVNPlatform()


BOARDS = (Board(
    name="ecp5-5g-evn", about="ECP5-5G evaluation board, LFE5UM5G-85F, expert memory is block RAM",
    platform=platform, preset="board-small", clock_hz=48_000_000,
    heartbeat=("led", 0), busy=("led", 1), error=("led", 2)),)
