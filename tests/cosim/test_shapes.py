"""Other configurations through the whole path: widths, banks, PEs, shared experts, regrouping."""

import dataclasses

import pytest

from stmoe_sim.policies import POLICIES
from support.synthetic import synthetic


@pytest.mark.parametrize("changes", [
    pytest.param({"pes": 3, "rows": 8, "lanes": 8, "axi_data_bits": 128, "banks_per_slot": 2,
                  "tile_bytes": 256, "outstanding": 4, "router_layers": 3}, id="three-pes"),
    pytest.param({"pes": 1, "model_d_ff": 64, "max_d_ff": 0, "axi_data_bits": 512, "rows": 8,
                  "burst_beats": 16, "model_shared_experts": 1, "model_shared_d_ff": 128,
                  "slots": 14}, id="shared-experts"),
    pytest.param({"weight_group": 32, "predictor": "table", "router_layers": 0}, id="four-bits"),
])
def test_another_configuration_equals_golden(make_machine, changes):
    machine = make_machine(**changes)
    for policy in ("on-demand", "lru", "table"):
        machine.check(machine.run(policy, stall=40))


def test_without_a_predictor_nothing_is_prefetched(make_machine):
    machine = make_machine(predictor="none", router_layers=0, slots=6, axi_data_bits=32,
                           tile_bytes=256)
    outcome = machine.run("lru")
    machine.check(outcome)
    assert outcome.counters["prefetches"] == 0


def test_banks_are_regrouped_for_wider_experts_at_run_time(make_machine):
    machine = make_machine(max_d_ff=128, slots=24, axi_data_bits=256)
    for d_ff in (32, 64, 128):
        outcome = machine.run("table", d_ff=d_ff)
        machine.check(outcome)
        narrow = 0 if d_ff == 32 else d_ff
        assert dataclasses.replace(machine.replay, d_ff=narrow).geometry.slots < 24 or d_ff == 32


def test_routing_on_chip_equals_golden(make_machine):
    machine = make_machine(router_layers=3)
    for stall in (0, 90):
        outcome = machine.run("table", route_on_chip=True, stall=stall)
        machine.check(outcome)
        assert outcome.counters["cycles_route"] > 0


MANY = synthetic(seed=8, layers=3, experts=128, top_k=8, tokens=240, sequences=3)


@pytest.mark.parametrize("policy, stall", [
    ("linear", 0), ("combined", 0), ("combined", 90), ("st-moe", 90), ("st-moe-ahead", 40)])
def test_128_experts_equal_golden(make_machine, monkeypatch, policy, stall):
    machine = make_machine(trace=MANY, linear_lookahead=True, router_layers=3, slots=40,
                           prefetch_round=12)
    eager = dataclasses.replace(POLICIES[policy], threshold=-40)  # so short a run is a cold start
    monkeypatch.setitem(POLICIES, policy, eager)
    outcome = machine.run(policy, stall=stall, route_on_chip=eager.lookahead)
    machine.check(outcome)
    assert outcome.counters["predicted"] > 200 and outcome.counters["prefetches"] > 20
