"""Retention policies: hit rates of traces, and the manager's victims."""

import numpy as np
import pytest

from stmoe.config import AcceleratorConfig, Geometry, ModelShape
from stmoe_golden.buffer import retention
from stmoe_golden.buffer.manager import ExpertManager, Kind, ManagerEvent
from stmoe_golden.buffer.retention import FREQUENCY_ONE, WAIT, UseFrequencies, ahead, hit_rates

LAYERS, EXPERTS, RANKS = 3, 8, 2


def trace(tokens=200, seed=0):
    """Experts of unequal popularity, which changes half way."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, EXPERTS + 1) ** 1.5
    share /= share.sum()
    order = rng.permuted(np.tile(np.arange(EXPERTS), (2, LAYERS, 1)), axis=2)
    return np.array([[rng.choice(order[2 * t // tokens, layer], RANKS, replace=False, p=share)
                      for layer in range(LAYERS)] for t in range(tokens)])


def played(experts, slots, policy, manager=ExpertManager, shared=0):
    """Hit rate of a manager whose transfers land at once and whose experts are read in order."""
    model = ModelShape(layers=LAYERS, experts=EXPERTS, top_k=RANKS, d_model=64, d_ff=32,
                       shared_experts=shared, shared_d_ff=32 if shared else 0)
    one = manager(Geometry(AcceleratorConfig(model=model, slots=slots)), retain=True,
                  prefetch=False, prefetch_round=1, retention=policy)
    ids = range(EXPERTS, model.expert_ids)
    hits = 0
    for token in experts:
        for layer, ranks in enumerate(token.tolist()):
            one.route(layer, ranks, list(ids))
            while one.expected or one.demands:
                if not one.expected:
                    one._demand()
                event = one.expected[0]
                if event.kind == Kind.ROUTE:  # which also tells the slack; there is none
                    event = event._replace(arg=RANKS + shared)
                hits += event.kind == Kind.HIT_RESIDENT and event.expert < EXPERTS
                one.check(event)
                if event.kind == Kind.DEMAND:
                    one.check(ManagerEvent(Kind.READY, *event[1:]))
            for expert in [*ranks, *ids]:
                one.check(ManagerEvent(Kind.RELEASE, layer, expert, one.where[layer, expert]))
    return hits / experts.size


@pytest.mark.parametrize("slots", [2, 3, 5, 8, 14, 24])
@pytest.mark.parametrize("policy", ["lru", "ewma"])
def test_hit_rates_are_those_of_the_manager(policy, slots):
    experts = trace(seed=slots)
    assert hit_rates(experts, EXPERTS, slots, (policy,))[policy] == played(experts, slots, policy)


class Early(ExpertManager):
    """New due times before the first victim is chosen."""

    def _demand(self):
        self._visit()
        super()._demand()


class Generous(ExpertManager):
    """What was just used is never the first out."""

    def _due_again(self, layer, expert):
        return self.clock


@pytest.mark.parametrize("wrong", [Early, Generous])
def test_hit_rates_tell_other_managers_apart(wrong):
    experts = trace()
    assert hit_rates(experts, EXPERTS, 8, ("ewma",))["ewma"] != played(experts, 8, "ewma", wrong)


def test_no_policy_beats_clairvoyance_and_ageing_beats_the_others():
    for slots in (4, 8, 12):
        rates = hit_rates(trace(600, seed=1), EXPERTS, slots)
        assert rates["bound"] >= rates["clairvoyant"] >= rates["told"] >= rates["ewma"]
        assert rates["ewma"] > max(rates["lru"], rates["lfu"])


def test_cyclic_use_of_more_than_fits_defeats_lru_and_not_ewma():
    experts = np.tile(np.arange(RANKS), (100, LAYERS, 1))
    rates = hit_rates(experts, EXPERTS, 2 * RANKS)
    assert rates["lru"] == 0
    assert rates["ewma"] == pytest.approx(rates["clairvoyant"], abs=0.01)


def test_shared_experts_stay():
    class Pinned(ExpertManager):
        def _take(self, kind, layer, expert):
            number = super()._take(kind, layer, expert)
            evicted.extend(e.expert for e in self.expected if e.kind == Kind.EVICT)
            return number

    evicted: list[int] = []
    played(trace(), 9, "ewma", Pinned, shared=1)
    assert evicted and EXPERTS not in evicted


def test_frequency_stays_in_range_and_forgets():
    use = UseFrequencies(1, 2)
    for _ in range(500):
        use.visit(0, [0])
    top = [FREQUENCY_ONE - (1 << s) + 1 for s in (1, 3, 5)]
    assert use.frequency[0, 0, [0, 1, 5]].tolist() == top and use.pattern[0].tolist() == [3, 0]
    assert use.wait(0, 0) == WAIT[61] >> 4 and use.wait(0, 1) == WAIT[0] >> 4
    for _ in range(1000):
        use.visit(0, [])
    assert use.frequency[0, 0, [0, 1, 2]].tolist() == [(1 << s) - 1 for s in (1, 3, 5)]


def test_the_pattern_of_use_tells_when_an_expert_comes_back():
    use = UseFrequencies(1, 1)
    for number in range(300):
        use.visit(0, [0] if number % 3 == 0 else [])
    assert use.pattern[0, 0] == 0b00
    soon = use.wait(0, 0)
    use.visit(0, [0])
    assert use.pattern[0, 0] == 0b01 and 2 * use.wait(0, 0) > 3 * soon


def test_the_leader_of_a_layer_tells_what_follows():
    use, rng = UseFrequencies(1, 40), np.random.default_rng(0)
    last = 0
    for _ in range(600):
        leader = int(rng.integers(3, 6))
        use.visit(0, [leader, *[20] * (last == 4)])
        last = leader
    waits = {}
    for leader in (3, 4, 5, 36):  # which is 4 modulo 16
        use.visit(0, [leader])
        waits[leader] = use.wait(0, 20)
    assert max(waits[4], waits[36]) * 3 < min(waits[3], waits[5]) * 2


def test_due_times_wrap():
    assert ahead(5, (1 << 24) - 3) == 8
    assert ahead((1 << 24) - 3, 5) == -8


@pytest.mark.parametrize("experts, slots, policies, message", [
    (np.zeros((2, 3)), 4, ("lru",), r"\(2, 3\)"),
    (np.full((1, 1, 1), 8), 4, ("lru",), "8 to 8"),
    (np.zeros((1, 1, 3), int), 2, ("lru",), "slots is 2, not at least 3"),
    (np.zeros((1, 1, 1), int), 2, ("fifo",), "policy is fifo"),
])
def test_wrong_input_is_refused(experts, slots, policies, message):
    with pytest.raises(ValueError, match=message):
        hit_rates(experts, EXPERTS, slots, policies)


def test_an_unknown_retention_is_refused():
    with pytest.raises(ValueError, match="retention is fifo"):
        played(trace(1), 8, "fifo")


def test_formats_are_those_documented():
    assert (min(WAIT), max(WAIT)) == (61, 1024) and retention.WEIGHTS == (1, 2, 5, 8)
