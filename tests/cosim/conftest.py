"""A built simulator per configuration, cached for the session."""

import dataclasses

import pytest

from stmoe.config import preset
from stmoe_golden.trace import decode_slice
from stmoe_sim.image import Experts, write_image
from stmoe_sim.memory import memory
from stmoe_sim.policies import parse_policies
from stmoe_sim.replay import Replay, fit, run
from support.synthetic import synthetic

TRACE = synthetic(seed=3, layers=3, experts=8, top_k=2, tokens=24, sequences=3)
WARMUP, TOKENS = 2, 12


class Machine:
    """A configuration on Verilator, ready to run policies; keyword arguments change the replay."""

    def __init__(self, cache, *, memory_name="lpddr4-3200", trace=TRACE, **changes):
        config = preset("tiny").replace(**{
            "slots": 10, "max_d_ff": 32, "prefetch_round": 6, "router_layers": 1} | changes)
        self.replay = Replay(
            config=fit(config, trace), window=decode_slice(trace, TOKENS, warmup=WARMUP),
            memory=memory(memory_name), attention_cycles=300, seed=5, cache=cache)

    def check(self, outcome):
        """No difference, everything compared, causes of cycles that sum to the total."""
        model = self.replay.config.model
        layers = (WARMUP + TOKENS) * model.layers
        assert outcome.verdict.mismatches == []
        assert outcome.verdict.compared["results"] == layers
        assert outcome.verdict.compared["events"] > layers
        assert outcome.verdict.compared["counters"] >= 25
        counters = outcome.counters
        causes = [value for name, value in counters.items()
                  if name.startswith("cycles_") and name != "cycles_total"]
        assert sum(causes) == counters["cycles_total"]
        assert counters["tokens"] == TOKENS
        assert counters["routed"] == TOKENS * model.layers * model.top_k
        kinds = ("hit_resident", "hit_prefetched", "hit_late", "missed")
        assert sum(counters[kind] for kind in kinds) == counters["routed"]
        assert not outcome.irq and not outcome.errors["error"]

    def parts(self, replay):
        """What :func:`run` needs beside replay and policy."""
        experts = Experts(replay.geometry, replay.seed)
        return {"simulator": replay.simulator(), "experts": experts,
                "image": write_image(experts, replay.cache), "stimulus": replay.stimulus()}

    def run(self, policy, parts=None, memory_settings=None, **changes):
        """The outcome of a policy by name."""
        if memory_settings:
            changes["memory"] = dataclasses.replace(self.replay.memory, **memory_settings)
        replay = dataclasses.replace(self.replay, **changes)
        (chosen,) = parse_policies(policy)
        return run(replay, chosen, **(parts or self.parts(replay)))


@pytest.fixture(scope="module")
def machine(cache):
    """The small machine that most tests use."""
    return Machine(cache)


@pytest.fixture(scope="module")
def looking(cache):
    """The same, with look-ahead, a router for every layer and all weights on chip."""
    return Machine(cache, linear_lookahead=True, router_layers=3, linear_lexical_store="chip",
                   linear_lexical=64, linear_pair=64, linear_previous=32)


@pytest.fixture(scope="module")
def streaming(cache):
    """The same, with all weights of the learned predictor in memory and two layers on chip."""
    return Machine(cache, linear_weight_store="memory")


@pytest.fixture
def make_machine(cache):
    """Makes a machine of another configuration."""
    return lambda **changes: Machine(cache, **changes)
