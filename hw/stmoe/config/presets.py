"""Named configurations."""

from .accelerator import AcceleratorConfig
from .error import ConfigError
from .linear import LinearOptions
from .model import ModelShape

__all__ = ["PRESETS", "preset"]

PRESETS = {
    "tiny": AcceleratorConfig(
        name="tiny",
        model=ModelShape(name="tiny", layers=8, experts=32, top_k=4, d_model=64, d_ff=32),
        pes=2, rows=4, lanes=16, slots=76, max_d_ff=64, router_layers=8, clock_mhz=800),
    "edge": AcceleratorConfig(
        name="edge",
        model=ModelShape(name="tiny-moe", layers=8, experts=32, top_k=4, d_model=128, d_ff=32),
        # What leaves an ECP5-85F room enough to be routed at its clock. One PE's slots are a single
        # RAM; four rows of sixteen take half of the requantisers of eight rows of eight.
        pes=1, rows=4, lanes=16, slots=16, clock_mhz=100, router_layers=0, predictor="linear",
        linear=LinearOptions(features=((0, 1), (0, 2), (1, 0)), leaders=(), stages=1, lexical=0,
                             pair=0, previous=0)),
    "board": AcceleratorConfig(  # an ECP5-85F with host link and SDRAM around it
        name="board",
        model=ModelShape(name="tiny-moe", layers=8, experts=32, top_k=4, d_model=128, d_ff=32),
        # SDRAM brings two bytes a cycle: eight multipliers are done with an expert in a quarter of
        # the time that it takes to come.
        pes=1, rows=2, lanes=4, slots=8, clock_mhz=40, router_layers=8, predictor="table",
        axi_data_bits=32, axi_addr_bits=32, tile_bytes=256, outstanding=4),
    "board-small": AcceleratorConfig(  # an ECP5-25F likewise, or the block RAM of an 85F
        name="board-small",
        model=ModelShape(name="small", layers=4, experts=8, top_k=2, d_model=32, d_ff=16),
        pes=1, rows=2, lanes=4, slots=4, clock_mhz=40, router_layers=0, predictor="table",
        axi_data_bits=32, axi_addr_bits=26, tile_bytes=256, outstanding=2),
    "server": AcceleratorConfig(
        name="server",
        model=ModelShape(name="qwen3-30b-a3b", layers=48, experts=128, top_k=8, d_model=2048,
                         d_ff=768),
        pes=8, rows=64, lanes=64, slots=8, axi_data_bits=512, tile_bytes=4096, burst_beats=64,
        outstanding=32, clock_mhz=1000, router_layers=1,
        linear=LinearOptions(weight_store="memory")),
}


def preset(name: str) -> AcceleratorConfig:
    """The preset called ``name``; :class:`ConfigError` names the known ones."""
    if name not in PRESETS:
        raise ConfigError("preset", name, f"one of {', '.join(PRESETS)}")
    return PRESETS[name]
