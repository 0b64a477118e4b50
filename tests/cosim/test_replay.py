"""The whole path on Verilator: a trace through the netlist, everything held against golden."""

import dataclasses

import numpy as np
import pytest

from stmoe.config import preset
from stmoe_golden.trace import decode_slice, synthetic
from stmoe_sim.image import Experts, write_image
from stmoe_sim.memory import memory
from stmoe_sim.policies import POLICIES
from stmoe_sim.replay import Replay, fit, run

TRACE = synthetic(seed=3, layers=3, experts=8, top_k=2, tokens=24, sequences=3)


@pytest.fixture(scope="module")
def replay(tmp_path_factory):
    config = preset("tiny").replace(slots=10, max_d_ff=32, prefetch_round=6)
    return Replay(config=fit(config, TRACE), window=decode_slice(TRACE, 12, warmup=2),
                  memory=memory("lpddr4-3200"), attention_cycles=300, seed=5,
                  cache=tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def parts(replay):
    experts = Experts(replay.config, replay.seed)
    return {"simulator": replay.simulator(), "experts": experts,
            "image": write_image(experts, replay.cache), "stimulus": replay.stimulus()}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("stall", [0, 100])
def test_every_policy_equals_golden(replay, parts, policy, stall):
    outcome = run(dataclasses.replace(replay, stall=stall), POLICIES[policy], **parts)
    assert outcome.verdict.mismatches == []
    assert outcome.verdict.compared["results"] == 14 * 3
    assert outcome.verdict.compared["events"] > 14 * 3
    counters = outcome.counters
    causes = [value for name, value in counters.items()
              if name.startswith("cycles_") and name != "cycles_total"]
    assert sum(causes) == counters["cycles_total"]
    assert counters["tokens"] == 12 and counters["routed"] == 12 * 3 * 2


def test_prediction_changes_cycles_only(replay, parts):
    runs = {name: run(replay, POLICIES[name], **parts) for name in ("on-demand", "table")}
    assert runs["table"].counters["hit_prefetched"] + runs["table"].counters["hit_late"] > 0
    assert runs["table"].counters["cycles_total"] != runs["on-demand"].counters["cycles_total"]


def test_a_wrong_weight_in_memory_is_noticed(replay, parts, tmp_path):
    image = bytearray(parts["image"].read_bytes())
    image[len(image) // 2] ^= 0x40
    broken = tmp_path / "broken.bin"
    broken.write_bytes(image)
    routed = np.unique(parts["stimulus"]["experts"][:, 1])
    blob = len(image) // (3 * 8)
    for expert in routed:  # hit an expert that is used
        image[blob * (8 + int(expert)) + blob // 2] ^= 0x40
    broken.write_bytes(image)
    outcome = run(replay, POLICIES["lru"], **(parts | {"image": broken}))
    assert any("result" in text for text in outcome.verdict.mismatches)


def test_another_hash_is_refused(replay, parts):
    from stmoe_sim.replay import SimulationError
    other = dataclasses.replace(replay, config=replay.config.replace(retries=5))
    with pytest.raises(SimulationError, match="configuration hash"):
        run(other, POLICIES["lru"], **parts)
