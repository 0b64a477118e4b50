"""The configuration that rehearsals of the tests run on, small enough for seconds."""

import dataclasses
from pathlib import Path

from stmoe.boards.tops import board
from stmoe.config import PRESETS
from stmoe_sim.rehearsal.board import build_board

__all__ = ["BOARD", "CONFIG", "build"]

CONFIG = PRESETS["tiny"].replace(
    name="rehearsal", model_layers=2, model_experts=4, model_top_k=2, model_d_model=32,
    model_d_ff=16, slots=4, max_d_ff=0, pes=1, predictor="table", router_layers=2,
    axi_addr_bits=26, outstanding=4)
BOARD = dataclasses.replace(board("ulx3s-85f"), clock_hz=25_000_000)
"""Its top, at the lowest clock that its line allows: less to simulate."""


def build(cache: Path) -> Path:
    """The simulator of the whole board."""
    return build_board(BOARD, CONFIG, cache)
