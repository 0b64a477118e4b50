"""Experts larger than the whole buffer through the whole netlist."""

import numpy as np
import pytest

from stmoe.config import PRESETS, Geometry
from stmoe_golden.compute.expert import Expert
from stmoe_golden.compute.mapping import moe_tokens
from support.layer_bench import LayerBench

CORRUPT = 10
WIDE, LATE = 64, 600
SMALL = {"model_layers": 1, "model_experts": 4, "model_top_k": 2, "model_d_model": 16,
         "model_d_ff": 16, "rows": 4, "lanes": 8, "slots": 2, "max_d_ff": WIDE, "pes": 1,
         "tile_bytes": 256, "outstanding": 4, "predictor": "none", "router_layers": 0}


def stage(d_ff=WIDE, tokens=(1, 1), **changes):
    """Configuration, experts, and commands of so many tokens each."""
    config = PRESETS["tiny"].replace(**SMALL | changes)
    rng, model = np.random.default_rng(7), config.model
    experts = {e: Expert.random(rng, model.d_model, d_ff, config.weight_group)
               for e in range(model.experts)}
    commands = [(np.array([rng.choice(model.experts, 2, replace=False) for _ in range(count)]),
                 rng.integers(0, 65536, (count, 2)).astype(np.uint16),
                 rng.integers(-128, 128, (count, model.d_model), np.int8)) for count in tokens]
    return config, experts, commands


def differ(found, commands, experts):
    """Commands whose result is not golden's; of a failed one there is none."""
    return [at for at, (result, (routing, gates, x)) in enumerate(zip(found, commands, strict=True))
            if result is not None and not np.array_equal(
                result, moe_tokens(x, routing, gates, experts))]


@pytest.mark.parametrize(("d_ff", "tokens", "stall", "late", "changes"), [
    pytest.param(64, (1,), 0.3, 40, {"pes": 2, "slots": 3, "tile_bytes": 64}, id="three slots"),
    pytest.param(32, (1,), 0.0, LATE, {"integrity": False}, id="the whole buffer"),
    pytest.param(64, (3,), 0.0, 40, {"max_tokens": 4, "pes": 2}, id="many tokens"),
    pytest.param(64, (1,), 0.3, LATE, {"banks_per_slot": 4, "slots": 3, "tile_bytes": 128},
                 id="many banks"),
    pytest.param(128, (1,), 0.0, LATE, {
        "weight_group": 32, "model_d_model": 32, "model_d_ff": 32, "max_d_ff": 128},
        id="four bits"),
])
def test_an_expert_larger_than_half_the_buffer_streams_through(d_ff, tokens, stall, late, changes):
    config, experts, commands = stage(d_ff, tokens, **changes)
    assert Geometry(config, d_ff).ring
    bench = LayerBench(config, experts, d_ff=d_ff, stall=stall, late=late)
    assert differ(bench.play(commands), commands, experts) == []
    assert bench.errors["error"] == 0


def test_narrower_experts_of_the_same_netlist_are_kept():
    config, experts, commands = stage(16)
    commands[1] = (commands[0][0], *commands[1][1:])
    assert not Geometry(config, 16).ring
    bench = LayerBench(config, experts, d_ff=16)
    assert differ(bench.play(commands), commands, experts) == []
    assert len(bench.asked) == 2 * Geometry(config, 16).tiles


def test_a_corrupt_tile_of_the_ring_is_read_again():
    config, experts, commands = stage(tokens=(1,))
    g = Geometry(config, WIDE)
    used = int(commands[0][0][0][0])
    where = {used * g.stride + tile * g.tile_bytes + 24: config.retries
             for tile in (0, g.tiles // 2, g.tiles - 1)}
    bench = LayerBench(config, experts, d_ff=WIDE, stall=0.2, corrupt=where)
    assert differ(bench.play(commands), commands, experts) == []
    assert not any(bench.corrupt.values()) and bench.errors["error"] == 0


def test_a_tile_that_stays_corrupt_fails_its_layer_alone():
    config, experts, commands = stage()
    g = Geometry(config, WIDE)
    tile = g.tiles - 2
    expert = (set(commands[0][0][0].tolist()) - set(commands[1][0][0].tolist())).pop()
    bench = LayerBench(config, experts, d_ff=WIDE, corrupt={
        expert * g.stride + tile * g.tile_bytes: config.retries + 1})
    found = bench.play(commands)
    assert [result is None for result in found] == [True, False]
    assert differ(found, commands, experts) == []
    assert list(bench.errors.values()) == [CORRUPT, 0, expert, tile]


def test_tiles_that_overwrite_what_is_not_yet_read_are_noticed(monkeypatch):
    config, experts, commands = stage(tokens=(1,))
    monkeypatch.setattr(Geometry, "ring_beats", property(lambda g: g.max_blob_beats))
    bench = LayerBench(config, experts, d_ff=WIDE, late=LATE)
    assert differ(bench.play(commands), commands, experts) == [0]
    assert bench.errors["error"] == 0
