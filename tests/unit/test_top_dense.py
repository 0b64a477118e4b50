"""DENSE commands through the whole netlist: results, the manager's events, refusals."""

from itertools import chain

import numpy as np
import pytest

from stmoe.config import AcceleratorConfig, ConfigError, Geometry, ModelShape
from stmoe.interfaces import ErrorCode
from stmoe_golden.buffer.events import Kind, ManagerEvent
from stmoe_golden.buffer.manager import ExpertManager
from stmoe_golden.compute.expert import Expert
from stmoe_golden.compute.mapping import moe_tokens
from stmoe_golden.compute.matrix import Matrix, dense_layer, parts_of
from support.layer_bench import Dense, LayerBench

BLOBS = 5  # a matrix of two parts, another one, a unit
WIDTH = 32


def configuration(**more):
    return AcceleratorConfig(
        model=ModelShape(layers=1, experts=4, top_k=2, d_model=WIDTH, d_ff=16), pes=2, rows=4,
        lanes=8, slots=3, axi_data_bits=32, tile_bytes=64, burst_beats=16, predictor="none",
        router_layers=0, dense_blobs=BLOBS).replace(**more)


class Weights:
    """Experts, two matrices and a unit behind them, and their places in memory."""

    def __init__(self, config):
        g, rng = Geometry(config), np.random.default_rng(5)
        model, group = config.model, config.weight_group
        self.experts = {e: Expert.random(rng, WIDTH, g.ff, group) for e in range(model.expert_ids)}
        self.matrices = [parts_of(Matrix.random(rng, WIDTH, WIDTH, group), g) for _ in range(2)]
        self.unit = Expert.random(rng, WIDTH, g.ff, group)
        self.blobs = dict(enumerate([*self.experts.values(), *chain(*self.matrices), self.unit]))

    def want(self, command):
        if not isinstance(command, Dense):
            routing, gates, x = command
            return moe_tokens(x, routing, gates, self.experts,
                              range(4, len(self.experts)))
        if command.units:
            count = len(command.x)
            return moe_tokens(command.x, np.zeros((count, 1), int),
                              np.full((count, 1), 0x8000, np.uint16), {0: self.unit})
        return [dense_layer(x, self.matrices[command.first // 2][:command.count])
                for x in command.x]


def commands(tokens=1):
    rng = np.random.default_rng(9)

    def x():
        return rng.integers(-128, 128, (tokens, WIDTH), np.int8)

    def layer(*experts):
        return (np.array([experts] * tokens), np.full((tokens, 2), 0x4000, np.uint16), x())

    return [Dense(0, 2, False, x()), layer(0, 1), Dense(2, 2, False, x()), Dense(4, 1, True, x()),
            layer(0, 2), Dense(2, 1, False, x())]


def replay(bench, played, config):
    """Golden's manager on the events of a run; its counters."""
    model = config.model
    manager = ExpertManager(Geometry(config), retain=True, prefetch=False, prefetch_round=1)
    left = iter(played)
    for event in bench.events:
        if event[0] == Kind.TOKEN:
            manager.token()
        elif event[0] in (Kind.ROUTE, Kind.DENSE):
            command = next(left)
            if isinstance(command, Dense):
                manager.dense(0, [model.expert_ids + command.first + i
                                  for i in range(command.count)], len(command.x),
                              matrix=not command.units)
            else:
                shared = list(range(model.experts, model.expert_ids))
                manager.route(0, command[0][0].tolist(), shared,
                              dict.fromkeys(range(model.expert_ids), len(command[2])))
        manager.check(ManagerEvent(*event))
    assert next(left, None) is None
    return manager.counters


@pytest.mark.parametrize("more, tokens", [
    ({}, 1), ({"max_tokens": 2}, 2), ({"integrity": False, "model_shared_experts": 1,
                                      "model_shared_d_ff": 16}, 1)])
def test_dense_commands_between_layers_equal_golden(more, tokens):
    config = configuration(**more)
    weights, played = Weights(config), commands(tokens)
    bench = LayerBench(config, weights.blobs, stall=0.3)
    for command, found in zip(played, bench.play(played), strict=True):
        assert np.array_equal(found, weights.want(command))
    assert bench.errors["error"] == 0
    counters = replay(bench, played, config)
    assert counters["missed"] > 0 and counters["evictions"] > 0
    assert counters["shared_missed"] == (1 if config.model.shared_experts else 0)


def test_a_bad_shape_of_matrices_is_refused():
    config = configuration()
    bench = LayerBench(config, Weights(config).blobs)
    object.__setattr__(bench.g, "matrix_tiles", 0)  # what the host writes
    assert bench.play(commands()[:1]) == [None]
    assert bench.errors["error"] == ErrorCode.BAD_SHAPE


def test_without_the_option_the_opcode_is_unknown():
    config = configuration(dense_blobs=0)
    bench = LayerBench(config, {})
    with pytest.raises(AssertionError, match="no result comes"):
        bench.play(commands()[:1], limit=300)
    assert not any(event[0] == Kind.DENSE for event in bench.events)


def test_a_corrupt_part_is_read_again_then_reported():
    config = configuration()
    weights, g = Weights(config), Geometry(config)
    at = 5 * g.stride + 12  # of part 1 of the first matrix
    played = commands()[:2]
    for times in (1, 3):
        bench = LayerBench(config, weights.blobs, corrupt={at: times})
        found = bench.play(played)
        assert np.array_equal(found[1], weights.want(played[1]))
        if times == 1:
            assert np.array_equal(found[0], weights.want(played[0])) and not bench.errors["error"]
        else:
            assert found[0] is None
            assert [bench.errors["error"], bench.errors["error_expert"]] == [ErrorCode.CORRUPT, 5]


@pytest.mark.parametrize("wrong", ["weights", "kept"])
def test_what_is_wrong_is_noticed(wrong, monkeypatch):
    config, played = configuration(), commands()
    weights = Weights(config)
    bench = LayerBench(config, weights.blobs)
    found = bench.play(played)
    if wrong == "weights":
        weights.matrices.reverse()
        assert not np.array_equal(found[0], weights.want(played[0]))
    else:  # a golden that keeps what is dense comes to other decisions
        monkeypatch.setattr(ExpertManager, "_dense", lambda self, expert: False)
        with pytest.raises(Exception, match="hardware says"):
            replay(bench, played, config)


@pytest.mark.parametrize("more, field", [
    ({"dense_blobs": 257}, "dense_blobs"), ({"dense_blobs": -1}, "dense_blobs"),
    ({"model_d_model": 512, "lanes": 8}, "dense_blobs"),  # in more parts than a layer has experts
    ({"max_d_ff": 64}, "max_d_ff"), ({"model_d_model": 8192, "rows": 2, "lanes": 4, "pes": 1,
                                     "model_d_ff": 16384}, "model.d_model")])
def test_a_configuration_that_cannot_be_says_so(more, field):
    with pytest.raises(ConfigError) as found:
        Geometry(configuration(**more))
    assert found.value.field == field


def test_the_hash_without_the_option_is_that_of_before():
    plain = configuration(dense_blobs=0)
    assert configuration(dense_blobs=1).hash != plain.hash == plain.replace(name="other").hash
