"""LambdaConcept ECPIX-5: ECP5 of speed grade 8, UART over an FT2232H. Its DDR3 is not used."""

from typing import Any

from .board import Board


def platform() -> Any:
    from amaranth_boards.ecpix5 import ECPIX585Platform
    return ECPIX585Platform()


BOARDS = (Board(
    name="ecpix5-85f", about="ECPIX-5 with LFE5UM5G-85F, expert memory is block RAM",
    platform=platform, preset="board-small", clock_hz=50_000_000,
    heartbeat=("rgb_led", 0, "g"), busy=("rgb_led", 0, "b"), error=("rgb_led", 0, "r")),)
