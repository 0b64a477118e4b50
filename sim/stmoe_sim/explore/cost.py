"""What a configuration costs on a chip, in closed form: docs/explore.md."""

import math
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from stmoe.compute.pe import ACCUMULATOR_BITS
from stmoe.config import AcceleratorConfig, Geometry

from ..synth.flow import least
from ..synth.gates import SRAM_BIT

__all__ = ["chip", "element_bits", "predictor_bits"]


@cache
def _measured() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("area.toml").read_text())


def element_bits(g: Geometry) -> int:
    """Bits of a PE's memories: activations, hidden values, partial sums and results."""
    rows, lanes = g.config.rows, g.config.lanes
    width = max(lanes, rows // 2)
    hidden = max(2, math.ceil(g.max_d_ff / width)) * width
    return 8 * (lanes * g.in_words + hidden) + g.out_groups * rows * (32 + ACCUMULATOR_BITS)


def predictor_bits(g: Geometry) -> int:
    """Bits of the prediction units' tables and rows of weights that are on chip."""
    c, model, bits = g.config, g.config.model, 0
    if "table" in c.predictor:
        identity = max(1, (model.experts - 1).bit_length())
        bits += (max(1, model.layers - 1) << identity) * model.top_k * (identity + 2)
    if "linear" in c.predictor:
        rows = c.linear.chip_rows(model)
        if c.linear.weight_store == "memory":
            rows += c.linear.window * c.linear.stride(model)
        bits += rows * model.experts * c.linear.bits
    return bits


def chip(config: AcceleratorConfig, buffer: str = "sram") -> dict[str, float]:
    """Bits of SRAM and mm2 at 45 nm, by part; with a ``buffer`` of "dram" the slots are no part of
    the chip.

    Bits are those of the memories that the netlist has; logic is what synthesis of a few sizes gave
    (``area.toml``), of PEs by rows and multipliers, of the buffer's network by what it multiplexes,
    of the rest as it was in one.
    """
    g, measured = Geometry(config), _measured()
    buffer_bits = least(config)["bram_bits"] if buffer == "sram" else 0
    sram = {"buffer": buffer_bits, "predictor": predictor_bits(g),
            "elements": config.pes * element_bits(g),
            "router": 8 * config.router_layers * config.model.experts * config.model.d_model}
    element = measured["element"]
    macs, rows = config.rows * config.lanes, config.rows
    logic = {
        "elements": config.pes * (element["multiplier"] * macs + element["row"] * rows
                                  + element["element"]),
        "network": measured["network"]["bit"] * config.pes * g.banks * 8 * g.word_bytes
        if buffer == "sram" and config.pes > 1 else 0.0,  # one PE has no network
        "rest": measured["rest"]["area"]}
    bits = sum(sram.values())
    return {
        "sram_bits": bits, "sram_mm2": bits * SRAM_BIT / 1e6,
        "logic_mm2": sum(logic.values()) / 1e6,
        "area_mm2": (bits * SRAM_BIT + sum(logic.values())) / 1e6,
        **{f"sram_bits_{name}": value for name, value in sram.items()},
        **{f"logic_mm2_{name}": value / 1e6 for name, value in logic.items()}}
