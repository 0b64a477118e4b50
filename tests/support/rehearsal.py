"""The configuration that rehearsals of the tests run on, small enough for seconds."""

from pathlib import Path

from stmoe.config import PRESETS
from stmoe_sim.rehearsal.board import BoardSettings, build_board

__all__ = ["CONFIG", "SETTINGS", "build"]

CONFIG = PRESETS["tiny"].replace(
    name="rehearsal", model_layers=2, model_experts=4, model_top_k=2, model_d_model=32,
    model_d_ff=16, slots=4, max_d_ff=0, pes=1, predictor="table", router_layers=0,
    axi_addr_bits=20, outstanding=4)
SETTINGS = BoardSettings(memory_bytes=32768)


def build(cache: Path) -> Path:
    """The simulator of the whole board."""
    return build_board(CONFIG, SETTINGS, cache)
