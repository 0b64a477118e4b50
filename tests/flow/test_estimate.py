"""Timing before placement: paths of netlists whose delays are known."""

import json

import pytest

from stmoe_sim.synth import estimate


def cell(kind, inputs, outputs):
    return {"type": kind, "port_directions": {**dict.fromkeys(inputs, "input"),
                                              **dict.fromkeys(outputs, "output")},
            "connections": {name: [bit] for name, bit in {**inputs, **outputs}.items()}}


def netlist(luts):
    """A register ``from`` of bit 2, ``luts`` tables one after the other, a register ``to``."""
    last = 10 + luts
    return {
        "ports": {"clk": {"direction": "input", "bits": [1]}},
        "netnames": {"from": {"bits": [2]}, "to_TRELLIS_FF_Q": {"bits": [3]},
                     **{f"net{i}": {"bits": [10 + i]} for i in range(1, luts + 1)}},
        "cells": {
            "a": cell("TRELLIS_FF", {"DI": 3, "CLK": 1}, {"Q": 2}),
            "b": cell("TRELLIS_FF", {"DI": last, "CLK": 1}, {"Q": 3}),
            **{f"lut{i}": cell("LUT4", {"A": 2 if i == 1 else 9 + i}, {"Z": 10 + i})
               for i in range(1, luts + 1)}}}


@pytest.mark.parametrize("luts", [1, 2, 9])
def test_a_path_takes_its_cells_and_a_net_each(luts):
    path, back = estimate.worst(netlist(luts))
    wire = estimate.ROUTE + estimate.ROUTE_FANOUT
    assert path.ns == pytest.approx(
        estimate.CLOCKED["TRELLIS_FF"] + luts * estimate.THROUGH["LUT4"] + (luts + 1) * wire)
    assert (path.start, path.end, path.levels) == ("from", "to", luts)
    assert (back.start, back.end, back.levels) == ("to", "from", 0)


def test_a_carry_chain_needs_no_wires_between_its_cells():
    made = netlist(1)
    chain = {f"carry{i}": cell("CCU2C", {"A0": 2, "CIN": 100 + i}, {"COUT": 101 + i, "S1": 200 + i})
             for i in range(1, 9)}
    made["cells"] |= chain | {"lut1": cell("LUT4", {"A": 208}, {"Z": 11})}
    path = estimate.worst(made)[0]
    wire = estimate.ROUTE + estimate.ROUTE_FANOUT
    fan_out = estimate.ROUTE + estimate.ROUTE_FANOUT * 3.17  # of eight cells
    assert path.ns == pytest.approx(
        estimate.CLOCKED["TRELLIS_FF"] + fan_out + estimate.CARRY_IN + 6 * estimate.CARRY_ON
        + estimate.CARRY_OUT + wire + estimate.THROUGH["LUT4"] + wire, abs=0.01)


def test_the_estimate_says_the_frequency_and_the_slowest_paths(tmp_path):
    path = tmp_path / "netlist.json"
    path.write_text(json.dumps({"modules": {"top": netlist(9)}}))
    found = estimate.estimate(path, "top", most=1)
    assert found["mhz"] == pytest.approx(1000 / found["ns"], abs=0.5)
    assert [(one["from"], one["to"]) for one in found["paths"]] == [("from", "to")]
