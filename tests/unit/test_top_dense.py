"""DENSE commands through the whole netlist: results, the manager's events, refusals."""

from itertools import chain

import numpy as np
import pytest

from stmoe.config import AcceleratorConfig, ConfigError, Geometry, ModelShape
from stmoe.interfaces import ErrorCode
from stmoe_golden.buffer.events import Kind, ManagerEvent, Mismatch
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


def replay(bench, given, config):
    """Golden's manager on the events of a run; its counters."""
    model = config.model
    manager = ExpertManager(Geometry(config), retain=True, prefetch=False, prefetch_round=1)
    left = iter(given)
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
                              dict.fromkeys(range(model.expert_ids), (len(command[2]),)))
        manager.check(ManagerEvent(*event))
    assert next(left, None) is None
    return manager.counters


def played(tokens=1, **more):
    """A run of :func:`commands`; configuration, weights, commands, bench and results."""
    config = configuration(**more)
    weights, given = Weights(config), commands(tokens)
    bench = LayerBench(config, weights.blobs, stall=0.3)
    return config, weights, given, bench, bench.play(given)


@pytest.fixture(scope="module")
def plain():
    return played()


def check(config, weights, given, bench, found):
    for command, result in zip(given, found, strict=True):
        assert np.array_equal(result, weights.want(command))
    assert bench.errors["error"] == 0
    counters = replay(bench, given, config)
    assert counters["missed"] > 0 and counters["evictions"] > 0
    assert counters["shared_missed"] == (1 if config.model.shared_experts else 0)


def test_dense_commands_between_layers_equal_golden(plain):
    check(*plain)


@pytest.mark.parametrize("more, tokens", [
    ({"max_tokens": 2}, 2),
    ({"integrity": False, "model_shared_experts": 1, "model_shared_d_ff": 16, "slots": 4}, 1)])
def test_so_do_those_of_other_netlists(more, tokens):
    check(*played(tokens, **more))


def test_wrong_weights_and_wrong_decisions_are_noticed(plain, monkeypatch):
    config, _, given, bench, found = plain
    other = Weights(config)
    other.matrices.reverse()
    assert not np.array_equal(found[0], other.want(given[0]))
    monkeypatch.setattr(ExpertManager, "_dense", lambda self, expert: False)  # keeps what is dense
    with pytest.raises(Mismatch, match="hardware says"):
        replay(bench, given, config)


def test_a_part_that_stays_corrupt_fails_its_command_alone():
    config = configuration()
    weights, g, given = Weights(config), Geometry(config), commands()[:2]
    at = 5 * g.stride + 12  # of part 1 of the first matrix
    bench = LayerBench(config, weights.blobs, corrupt={at: config.retries + 1})
    found = bench.play(given)
    assert found[0] is None and np.array_equal(found[1], weights.want(given[1]))
    assert [bench.errors["error"], bench.errors["error_expert"]] == [ErrorCode.CORRUPT, 5]


@pytest.mark.parametrize("more, field", [
    ({"model_d_model": 512, "lanes": 8}, "dense_blobs"),  # in more parts than a layer has experts
    ({"max_d_ff": 64}, "max_d_ff"),
    ({"model_d_model": 8192, "rows": 2, "lanes": 4}, "model.d_model")])
def test_a_configuration_that_cannot_be_says_so(more, field):
    with pytest.raises(ConfigError) as found:
        Geometry(configuration(**more))
    assert found.value.field == field


def test_the_hash_without_the_option_is_that_of_before():
    plain = configuration(dense_blobs=0)
    assert configuration(dense_blobs=1).hash != plain.hash == plain.replace(name="other").hash
