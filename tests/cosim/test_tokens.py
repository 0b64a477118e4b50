"""Layer commands of many tokens through the whole path: outputs, decisions and counters."""

import dataclasses

import numpy as np
import pytest

from stmoe.config import ConfigError
from stmoe_golden.buffer import events
from stmoe_golden.compute.mapping import Dataflow, cost, group
from stmoe_sim import verify
from support.routing import extremes

from .conftest import Machine

MOST, SLOTS = 4, 7  # tokens of a command; of 8 experts
WARMUP, TOKENS = 4, 8


@pytest.fixture(scope="module")
def many(cache):
    return Machine(cache, max_tokens=MOST, slots=SLOTS, prefetch_round=3, router_layers=3,
                   split_groups=True)


def play(machine, policy, parts=None, warmup=WARMUP, **changes):
    window = dataclasses.replace(machine.replay.window, warmup=warmup, tokens=TOKENS)
    return machine.run(policy, parts, window=window, **({"at_a_time": MOST} | changes))


@pytest.mark.parametrize("policy, phase, stall", [
    ("on-demand", "prefill", 0), ("lru", "decode", 90), ("table", "verify", 0),
    ("table", "prefill", 90), ("linear", "verify", 90), ("st-moe:worth", "prefill", 0),
    ("table:ewma", "verify", 40)])
def test_many_tokens_equal_golden(many, policy, phase, stall):
    outcome = play(many, policy, phase=phase, stall=stall)
    layers = many.replay.config.model.layers
    assert outcome.verdict.mismatches == [] and not outcome.irq
    assert outcome.verdict.compared["results"] == (WARMUP + TOKENS) * layers
    assert outcome.counters["tokens"] == TOKENS // MOST
    assert outcome.counters["layers_done"] == TOKENS // MOST * layers
    assert outcome.counters["mac_words"] > outcome.counters["bank_reads"]
    if phase == "prefill":  # all that a round may promise, whatever is predicted
        assert bool(outcome.counters["prefetches"]) == (policy != "on-demand")


@pytest.mark.parametrize("stall", [0, 90])
def test_many_tokens_routed_on_chip_equal_golden(many, stall):
    outcome = play(many, "table", phase="verify", route_on_chip=True, stall=stall)
    assert outcome.verdict.mismatches == [] and not outcome.irq


def test_one_token_at_a_time_is_input_stationary(many):
    outcome = play(many, "table", at_a_time=1)
    assert outcome.verdict.mismatches == []
    assert outcome.counters["mac_words"] == outcome.counters["bank_reads"]


EXTREMES = extremes(tokens=MOST, experts=8, top_k=2)


@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_routing_equals_golden(many, name):
    routing = np.array(EXTREMES[name])
    window = dataclasses.replace(many.replay.window, warmup=0, tokens=TOKENS)
    parts = many.parts(dataclasses.replace(many.replay, window=window))
    parts["stimulus"]["experts"][:] = np.resize(routing, (TOKENS, 2))[:, None]
    outcome = play(many, "lru", parts, warmup=0, at_a_time=len(routing))
    assert outcome.verdict.mismatches == []
    if name == "all different":
        assert len(group(routing)) > SLOTS and outcome.counters["evictions"]


@pytest.mark.parametrize("broken", ["order", "dataflow", "tokens", "parts"])
def test_another_grouping_is_noticed(many, monkeypatch, broken):
    target, name, other = {
        "order": (verify, "group", lambda *given: sorted(group(*given))),
        "tokens": (verify, "group", lambda *given: [
            each._replace(tokens=each.tokens[:1]) for each in group(*given)]),
        "parts": (verify, "parts", lambda g, sharers, tokens: [sharers]),
        "dataflow": (events, "work", lambda g, tokens: cost(g, tokens, Dataflow.INPUT)),
    }[broken]
    monkeypatch.setattr(target, name, other)
    assert play(many, "lru").verdict.mismatches


def test_more_tokens_than_the_netlist_takes_are_refused(many):
    with pytest.raises(ConfigError, match="at_a_time"):
        dataclasses.replace(many.replay, at_a_time=MOST + 1)
