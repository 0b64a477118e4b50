"""Lattice Versa ECP5-5G: UART over an FT2232H. Its DDR3 is not used."""

from typing import Any

from .board import Board


def platform() -> Any:
    from amaranth_boards.versa_ecp5_5g import VersaECP55GPlatform
    return VersaECP55GPlatform()


BOARDS = (Board(
    name="versa-ecp5-5g", about="Versa ECP5-5G with LFE5UM5G-45F, expert memory is block RAM",
    platform=platform, preset="board-small", clock_hz=50_000_000,
    heartbeat=("led", 0), busy=("led", 1), error=("led", 2)),)
