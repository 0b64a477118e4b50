"""What ``stmoe explore`` says a configuration costs, against netlists."""

import re
from dataclasses import replace

import pytest

from stmoe.config import Geometry, LinearOptions, preset
from stmoe_sim.explore.cost import chip, element_bits, predictor_bits
from stmoe_sim.synth.synthesis import netlist_units
from stmoe_sim.synth.units import instance_counts

SMALL = preset("tiny").replace(
    name="small", slots=5, rows=8, lanes=8, max_d_ff=0, router_layers=2, model_layers=4,
    model_experts=16, linear=LinearOptions(features=((0, 1), (1, 0)), leaders=(), lexical=64,
                                           pair=0, previous=0, lexical_store="chip"))


@pytest.fixture(scope="module")
def memories(tmp_path_factory):
    """Bits of memory of a small netlist, by unit, of all its instances; tables are left out."""
    units = netlist_units(SMALL, tmp_path_factory.mktemp("cost"), lambda step: None)
    counts = instance_counts(units)
    return {unit.path: counts[unit.name] * sum(
        int(width) * int(size) for width, size in re.findall(
            r"^  memory width (\d+) size (\d+)", unit.text, re.M))
        for unit in units.values() if unit.path != "SiluTable"}


def test_bits_are_those_of_the_netlist(memories):
    found, g = chip(SMALL), Geometry(SMALL)
    banks = sum(bits for name, bits in memories.items() if name.startswith("BankMemory"))
    assert found["sram_bits_buffer"] == banks
    assert found["sram_bits_elements"] == memories["ProcessingElement"] == 2 * element_bits(g)
    predictors = memories["predictor.unit0"] + memories["predictor.unit1"]
    assert found["sram_bits_predictor"] == predictor_bits(g)
    assert 0 <= predictors - predictor_bits(g) < 12_000  # sigmoid, history: not followed
    assert 0 <= memories["router"] - found["sram_bits_router"] < 36_000  # exponential, inputs
    parts = [value for name, value in found.items() if name.startswith("sram_bits_")]
    assert found["sram_bits"] == sum(parts)
    assert found["area_mm2"] == pytest.approx(found["sram_mm2"] + found["logic_mm2"])


def test_each_field_costs_what_it_makes():
    base = chip(SMALL)
    assert chip(SMALL.replace(slots=10))["sram_bits_buffer"] == 2 * base["sram_bits_buffer"]
    assert chip(SMALL, "dram")["sram_bits_buffer"] == 0
    more = chip(SMALL.replace(pes=4))
    assert more["logic_mm2_elements"] == pytest.approx(2 * base["logic_mm2_elements"])
    streamed = SMALL.replace(linear=replace(SMALL.linear, lexical_store="memory"))
    rows = base["sram_bits_predictor"] - chip(streamed)["sram_bits_predictor"]
    assert rows == 4 * 64 * 16 * SMALL.linear.bits
    assert chip(SMALL.replace(predictor="none"))["sram_bits_predictor"] == 0
