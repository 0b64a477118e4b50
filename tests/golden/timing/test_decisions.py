"""The timing model decides as golden's manager does, whatever it takes for the time in between."""

from itertools import groupby

import numpy as np
import pytest

from stmoe.config import ConfigError, Geometry, preset
from stmoe_golden.buffer.manager import ExpertManager, ManagerEvent, Mismatch
from stmoe_golden.buffer.worth import Worth
from stmoe_golden.predict.unit import LearnedUnit, TableUnit
from stmoe_golden.timing.model import MemoryTiming, Settings, simulate
from stmoe_golden.timing.state import CAUSES
from stmoe_golden.timing.stimulus import Stimulus, rounds_of
from support.synthetic import synthetic

TRACE = synthetic(seed=5, layers=4, experts=12, top_k=3, tokens=40, sequences=2)
ROUTE, TOKEN = 1, 18
SLOW, FAST = MemoryTiming(column=40_000, latency=90_000), MemoryTiming(column=5_000, latency=20_000)


def geometry(slots=14, **changes):
    return Geometry(preset("tiny").replace(
        model_layers=4, model_experts=12, model_top_k=3, slots=slots, prefetch_round=7,
        router_layers=0, **changes))


def unit_of(g, settings, depth=1):
    if settings.predictor == "table":
        return TableUnit(g.config, threshold=2, use_cct=True, use_ht=True)
    if settings.predictor == "linear":
        return LearnedUnit(g.config, threshold=settings.threshold, limit=12, depth=depth,
                           token_depth=depth)
    return None


def played(g, settings, memory, depth=1):
    """The model's run, and golden's rounds."""
    routing = TRACE.experts.astype(np.int64)
    first = np.isin(np.arange(len(routing)), TRACE.offsets)
    token = TRACE.token.astype(np.int64)
    unit = unit_of(g, settings, depth)
    found = rounds_of(g.config, unit, routing, token, first)
    return simulate(g, settings, memory, Stimulus(routing, token, first, found), log=100_000)


def held(g, settings, run, depth=1, change=None):
    """Golden's manager, having followed every event of ``run``."""
    linear = settings.predictor == "linear"
    worth = Worth(12, g.config.linear.fraction if linear else None,
                  rows_slack=g.rows_slack if linear else 0)
    manager = ExpertManager(
        g, retain=settings.retain, prefetch=settings.prefetch, prefetch_round=7,
        retention=settings.retention, worth=worth if settings.worth else None)
    unit = unit_of(g, settings, depth)
    first = np.isin(np.arange(len(TRACE.experts)), TRACE.offsets)
    step = -1
    for index, event in enumerate(run.events.tolist()):
        fields = event[1:]
        if index == change:
            fields[2] = (fields[2] + 1) % 12
        found = []
        if fields[0] in (ROUTE, TOKEN):
            step += 1
            t, layer = divmod(step, 5)
            experts = TRACE.experts[t, layer - 1].tolist()
            if fields[0] == TOKEN:
                manager.token()
                found = unit.token(int(TRACE.token[t]), bool(first[t])) if unit else []
            else:
                manager.route(layer - 1, experts, [])
                found = unit.observe(layer - 1, experts, bool(first[t])) if unit else []
        manager.check(ManagerEvent(*fields))
        for about, part in groupby(found, lambda candidate: candidate[0]):
            manager.predict(about, [(e, score) for _, e, score in part])
    return manager


POLICIES = {
    "on-demand": Settings(retain=False), "lru": Settings(), "ewma": Settings(retention="ewma"),
    "table": Settings(prefetch=True, predictor="table", attention=200),
    "linear": Settings(prefetch=True, predictor="linear", threshold=-104),
    "worth": Settings(prefetch=True, predictor="linear", threshold=-104, worth=True,
                      retention="ewma", attention=700)}


@pytest.mark.parametrize("memory", [SLOW, FAST], ids=["slow", "fast"])
@pytest.mark.parametrize("policy", POLICIES)
def test_every_decision_is_goldens(policy, memory):
    g, settings = geometry(), POLICIES[policy]
    run = played(g, settings, memory)
    manager = held(g, settings, run)
    for name, value in manager.counters.items():
        if name in run.counters:
            assert run.counters[name] == value, name
    assert sum(run.causes.values()) == run.cycles


def test_deep_rounds_and_few_slots():
    g, settings = geometry(slots=9), POLICIES["worth"]
    held(g, settings, played(g, settings, SLOW, depth=3), depth=3)


def test_another_decision_is_noticed():
    g, settings = geometry(), POLICIES["table"]
    run = played(g, settings, FAST)
    at = int(np.flatnonzero(run.events[:, 1] == 10)[3])  # a prefetch
    with pytest.raises(Mismatch):
        held(g, settings, run, change=at)


def test_causes_sum_to_the_total_and_warm_up_does_not_count():
    g = geometry()
    routing = TRACE.experts.astype(np.int64)
    first = np.isin(np.arange(len(routing)), TRACE.offsets)
    stimulus = Stimulus(routing, TRACE.token.astype(np.int64), first)
    whole = simulate(g, Settings(), FAST, stimulus)
    later = simulate(g, Settings(), FAST, stimulus, warmup=10)
    assert later.counters["tokens"] == 30 and later.cycles < whole.cycles
    assert set(later.causes) == set(CAUSES) and sum(later.causes.values()) == later.cycles


def test_a_buffer_of_everything_is_filled_once():
    g = geometry(slots=48)
    routing = TRACE.experts.astype(np.int64)
    stimulus = Stimulus(routing, TRACE.token.astype(np.int64), np.zeros(len(routing), bool))
    used = len({(layer, e) for token in routing for layer, row in enumerate(token) for e in row})
    for retention in ("lru", "ewma", "clairvoyant", "lfu", "static"):
        run = simulate(g, Settings(retention=retention), FAST, stimulus)
        assert run.counters["missed"] == used and run.counters["evictions"] == 0


def test_clairvoyant_retention_misses_least():
    g = geometry(slots=14)
    routing = TRACE.experts.astype(np.int64)
    stimulus = Stimulus(routing, TRACE.token.astype(np.int64), np.zeros(len(routing), bool))
    missed = {retention: simulate(g, Settings(retention=retention), FAST, stimulus).counters[
        "missed"] for retention in ("lru", "lfu", "ewma", "clairvoyant")}
    assert min(missed, key=missed.__getitem__) == "clairvoyant"


def test_what_is_not_modelled_is_refused():
    g = geometry(linear_weight_store="memory")
    with pytest.raises(ValueError, match="weight_store"):
        played(g, POLICIES["linear"], FAST)
    wide = Geometry(geometry(slots=2, model_d_ff=16, max_d_ff=64).config, 64)
    with pytest.raises(ConfigError, match="two experts fit the buffer"):
        played(wide, POLICIES["linear"], FAST)
