"""The linear predictor against golden, round by round and weight by weight, with stalls."""

import dataclasses
import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from stmoe.config import AcceleratorConfig, ConfigError, Geometry, ModelShape
from stmoe.predict.linear import LinearPredictor
from stmoe.predict.linear_error import SIGMOID
from stmoe.predict.linear_shape import LinearOptions
from stmoe_golden.predict import linear as golden_linear
from stmoe_golden.predict.predictor import Shape

COUNTERS = ("row_reads", "row_writes", "rows_added", "predicted")
ALL = dict(threshold=-(1 << 12), limit=1 << 9)  # everything is put out


def geometry(layers, experts, top_k, shared=0):
    model = ModelShape(layers=layers, experts=experts, top_k=top_k, d_model=64, d_ff=32,
                       shared_experts=shared, shared_d_ff=32 if shared else 0)
    return Geometry(AcceleratorConfig(model=model, router_layers=0))


def tokens(g, count, seed, *, sequence=7, spread=3, identities=12):
    """Tokens and their routing, with locality: related experts across layers and tokens."""
    rng, model = random.Random(seed), g.config.model
    operations, base = [], 0
    for t in range(count):
        identity = rng.randrange(-1, identities)
        operations.append(("token", identity, t % sequence == 0))
        if rng.random() < 0.5:
            base = identity % model.experts
        for layer in range(model.layers):
            pool = [(base + 3 * layer + i) % model.experts
                    for i in range(min(model.experts, spread * model.top_k))]
            operations.append(("observe", layer, rng.sample(pool, model.top_k)))
    return operations


class Expected:
    """What golden answers to operations, and what the hardware counts meanwhile."""

    def __init__(self, g, options, operations, prior=None):
        model = g.config.model
        self.golden = golden_linear.Linear(Shape(model.layers, model.experts, model.top_k),
                                           **dataclasses.asdict(options))
        if prior is not None:
            self.golden.prior = prior
        self.counts = dict.fromkeys(COUNTERS, 0)
        settings = {"enable": 1, **ALL}
        self.rounds, off = [], True
        for kind, *rest in operations:
            if kind == "set":
                settings.update(rest[0])
                continue
            layer, scores = rest[0] + 1 if kind == "observe" else 0, None
            if not settings["enable"]:
                off = True
            elif kind == "token":
                scores = self.golden.begin_token(rest[0], rest[1] or off)
                off = False
            elif not off:
                self.count(self.golden.rows(rest[0]), "row_reads", "row_writes")
                scores = self.golden.observe(rest[0], np.array(rest[1]))
            found = []
            if scores is not None:
                self.count(self.golden.rows(layer), "row_reads", "rows_added")
                order = np.argsort(-scores, kind="stable").tolist()
                found = [(e, int(scores[e])) for e in order if scores[e] >= settings["threshold"]]
            found = found[:settings["limit"]]
            if scores is not None:
                found = [(model.experts + unit, None) for unit in range(model.shared_units)] + found
            self.counts["predicted"] += len(found)
            self.rounds.append([(layer, *each) for each in found])

    def count(self, rows, *names):
        for name in names:
            self.counts[name] += len(rows)


class Bench:
    """Plays operations into the unit; collects rounds of candidates, counters and cycles."""

    def __init__(self, unit, operations, *, seed=0, stall=0.3):
        self.unit, self.operations, self.stall = unit, operations, stall
        self.rng, self.sink_rng = random.Random(seed), random.Random(~seed)
        self.rounds, self.counts = [], dict.fromkeys(COUNTERS, 0)
        self.taken, self.beats, self.cycle, self.idle = [], [], 0, 0
        experts = unit.shape.experts
        self.largest = {"threshold": (1 << unit.shape.score_bits - 1) - 1, "limit": experts}
        self.expected = sum(op[0] != "set" for op in operations)
        self.weights = self.lexical = None
        sim = Simulator(unit)
        sim.add_clock(1e-8)
        sim.add_testbench(self.stimulus)
        sim.add_testbench(self.sink)
        sim.add_testbench(self.monitor, background=True)
        sim.run()

    def apply(self, ctx, settings):
        for name, value in settings.items():
            top = self.largest.get(name, value)
            ctx.set(getattr(self.unit, name), max(-top, min(top, value)))

    async def put(self, ctx, port, payload):
        while self.rng.random() < self.stall:
            await ctx.tick()
        ctx.set(port.payload, payload)
        ctx.set(port.valid, 1)
        await ctx.tick().until(port.ready)
        ctx.set(port.valid, 0)

    async def quiet(self, ctx):
        await ctx.tick()
        while ctx.get(self.unit.busy):
            assert self.cycle < 200000, f"{len(self.rounds)} of {self.expected} rounds"
            await ctx.tick()

    async def stimulus(self, ctx):
        unit = self.unit
        self.apply(ctx, {"enable": 1, "layers": unit.shape.layers,
                         "experts": unit.shape.experts, **ALL})
        for kind, *rest in self.operations:
            if kind == "token":
                identity, first = rest
                await self.put(ctx, unit.token, {
                    "identity": max(0, identity), "known": identity >= 0, "first": first})
            elif kind == "observe":
                layer, experts = rest
                for rank, expert in enumerate(experts):
                    await self.put(ctx, unit.observe, {
                        "layer": layer, "expert": expert, "last": rank == len(experts) - 1})
            else:
                await self.quiet(ctx)
                self.apply(ctx, rest[0])
                continue
        await self.quiet(ctx)
        self.idle = self.cycle
        self.weights = self.contents(ctx, unit.weights.data)
        if unit.weights.lexical_data is not None:
            self.lexical = self.contents(ctx, unit.weights.lexical_data)

    def contents(self, ctx, memory):
        """int [row, expert], what the memory holds."""
        bits = self.unit.options.bits
        rows = [[ctx.get(memory[at]) >> bits * e & (1 << bits) - 1
                 for e in range(self.unit.shape.experts)] for at in range(memory.depth)]
        values = np.array(rows)
        return values - (values >> bits - 1 << bits)

    async def sink(self, ctx):
        port, current, held = self.unit.candidates, [], None
        while len(self.rounds) < self.expected:
            ready = self.sink_rng.random() >= self.stall
            ctx.set(port.ready, ready)
            _, _, valid, beat = await ctx.tick().sample(port.valid, port.payload)
            assert held is None or (valid and beat == held), f"cycle {self.cycle}: beat not held"
            held = beat if valid and not ready else None
            if valid and ready:
                shared = beat.expert >= self.unit.shape.experts
                if shared:
                    assert beat.score == self.largest["threshold"]
                current.append((beat.layer, beat.expert, None if shared else beat.score))
                if beat.end:
                    self.rounds.append(current[:-1])
                    current = []
        ctx.set(port.ready, 0)

    async def monitor(self, ctx):
        unit = self.unit
        taken = (unit.token.valid & unit.token.ready
                 | unit.observe.valid & unit.observe.ready & unit.observe.payload.last)
        beat = unit.candidates.valid & unit.candidates.ready
        ports = [getattr(unit, name) for name in COUNTERS]
        async for _, _, took, gave, *values in ctx.tick().sample(taken, beat, *ports):
            self.cycle += 1
            if took:
                self.taken.append(self.cycle)
                self.beats.append([])
            if gave:
                self.beats[-1].append(self.cycle)
            for name, value in zip(COUNTERS, values, strict=True):
                self.counts[name] += value


def golden_rows(golden):
    """int [row, expert], in the order of the hardware's memory."""
    bias = golden.bias[:, None]
    features = np.moveaxis(golden.weight, 0, 1)
    layers, experts = golden.bias.shape
    return np.concatenate([bias, features.reshape(layers, -1, experts)], 1).reshape(-1, experts)


def check(g, options, operations, *, lanes=4, **bench_options):
    want = Expected(g, options, operations)
    bench = Bench(LinearPredictor(g, options, lanes=lanes), operations, **bench_options)
    context = f"{options}, {bench_options}"
    for at, (found, wanted) in enumerate(zip(bench.rounds, want.rounds, strict=True)):
        assert found == wanted, f"round {at}, {context}: {found} is not {wanted}"
    np.testing.assert_array_equal(bench.weights, golden_rows(want.golden), context)
    if options.lexical:
        lexical = want.golden.lexical.reshape(-1, g.config.model.experts)
        np.testing.assert_array_equal(bench.lexical, lexical, context)
    assert bench.counts == want.counts, context
    return bench, want


SHAPES = {
    "default features": ((5, 8, 2), {}),
    "8 bits, lexical": ((5, 8, 2), dict(bits=8, fraction=5, lexical=8)),
    "lags of two, lexical": ((3, 16, 3), dict(
        features=((2, 0), (0, 2), (1, 1), (2, 2), (0, 1)), lexical=8)),
    "17 experts, groups of two": ((3, 17, 2), dict(features=((1, 0), (0, 1)), rate=2)),
    "bias only": ((2, 4, 1), dict(features=())),
    "lexical only": ((4, 6, 2), dict(features=(), lexical=4, lexical_rate=0)),
    "one layer": ((1, 8, 2), dict(features=((1, 0), (3, 0)), lexical=8)),
    "all experts": ((3, 4, 4), dict(lexical=2)),
    "wide steps": ((3, 8, 3), dict(bits=16, fraction=10, rate=0, lexical_rate=0, lexical=8)),
    "slow": ((3, 8, 3), dict(bits=4, fraction=4, rate=4, lexical_rate=5, lexical=2)),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_scores_order_and_weights_equal_golden(name, stall):
    shape, options = SHAPES[name]
    g = geometry(*shape)
    check(g, LinearOptions(**options), tokens(g, 18, seed=shape[1]), seed=7, stall=stall,
          lanes=1 if name == "bias only" else 4)


def test_weights_saturate_at_both_ends():
    g = geometry(3, 8, 2)
    options = LinearOptions(bits=6, fraction=6, rate=-4, lexical_rate=-4, lexical=2)
    _, want = check(g, options, tokens(g, 12, seed=3))
    for rows in (want.golden.bias, want.golden.lexical, want.golden.weight):
        assert rows.min() == -31 and rows.max() == 31


def test_the_first_scores_are_the_prior_and_ties_come_in_order_of_id():
    g = geometry(2, 32, 4)
    bench, want = check(g, LinearOptions(), [("token", 3, True)])
    assert bench.rounds == [[(0, e, want.golden.prior) for e in range(32)]]


@pytest.mark.parametrize("seed", range(3))
def test_limit_threshold_and_enable_change_at_any_time(seed):
    g = geometry(3, 20, 3, shared=seed)
    rng = random.Random(seed)
    operations = []
    for operation in tokens(g, 20, seed, sequence=9):
        if rng.random() < 0.3:
            operations.append(("set", {
                "enable": rng.random() < 0.8, "limit": rng.choice([0, 1, 3, 6, 20]),
                "threshold": rng.choice([-5000, -120, -60, -20, 0, 40])}))
        operations.append(operation)
    check(g, LinearOptions(features=((0, 1), (1, 0)), lexical=4), operations, seed=seed)


def test_fewer_layers_and_experts_at_run_time():
    operations = tokens(geometry(3, 6, 2), 8, seed=2)
    unit = LinearPredictor(geometry(5, 8, 2), LinearOptions())
    want = Expected(geometry(3, 6, 2), LinearOptions(), operations, prior=unit.shape.prior)
    bench = Bench(unit, [("set", {"layers": 3, "experts": 6}), *operations])
    assert bench.rounds == want.rounds


def test_a_layer_that_was_not_scored_is_not_learned():
    g = geometry(4, 8, 2)
    operations = [("observe", 0, [1, 2]), ("token", -1, True), ("observe", 1, [3, 4]),
                  ("observe", 3, [3, 4])]
    bench = Bench(LinearPredictor(g, LinearOptions()), operations)
    assert [len(found) for found in bench.rounds] == [0, 8, 8, 0]
    assert not bench.weights.any()


@pytest.mark.parametrize("broken", [
    dict(rate=5), dict(lexical_rate=2), dict(bits=5), dict(fraction=5), dict(lexical=4),
    dict(features=((0, 1), (0, 2), (0, 3), (2, 0))), "prior", "sigmoid", "rounding"])
def test_a_wrong_unit_is_noticed(broken, monkeypatch):
    g = geometry(4, 8, 2)
    options = LinearOptions(lexical=8, bits=8)
    operations = tokens(g, 12, seed=1, sequence=10, identities=10)
    want = Expected(g, options, operations).rounds
    if isinstance(broken, dict):
        options = dataclasses.replace(options, **broken)
    unit = LinearPredictor(g, options)
    if broken == "prior":
        unit.shape.__dict__["prior"] = unit.shape.prior + 1
    elif broken == "sigmoid":
        table = [p - 8 * (100 <= i < 120) for i, p in enumerate(golden_linear.SIGMOID.tolist())]
        monkeypatch.setattr("stmoe.predict.linear_error.SIGMOID", table)
    elif broken == "rounding":
        monkeypatch.setattr("stmoe.predict.linear_error.ERROR_ONE", 1023)
    assert Bench(unit, operations, stall=0).rounds != want


def test_latency_at_128_experts():
    g = geometry(5, 128, 8)
    options = LinearOptions(lexical=2)
    limit = ("set", {"limit": 12})
    operations = [limit, *tokens(g, 2, seed=4, sequence=5, identities=3)]
    operations[1] = ("token", 1, True)
    operations[7] = ("token", 1, False)
    bench, _ = check(g, options, operations, stall=0)
    at = 10  # the last round that predicts: all four features apply, and the lexical row
    assert len(bench.rounds[at]) == 12 and bench.rounds[at][0][0] == 4
    rows = 2 + 4 * 8
    assert np.diff([bench.taken[at], *bench.beats[at]]).tolist() == [rows + 5 + 128 // 16 + 4,
                                                                     *[4] * 12]
    assert bench.beats[at][0] - bench.taken[at] <= 64
    # The last layer is only learned.
    assert bench.idle - bench.taken[-1] <= 128 // 4 + rows + 14


def test_rows_of_two_layers_are_disjoint_so_that_learning_may_come_second():
    golden = golden_linear.Linear(Shape(3, 8, 2), lexical=2)
    golden.begin_token(1, True)
    for layer in range(2):
        golden.observe(layer, np.array([1, 5]))
    for row, _ in golden.rows(1):
        assert not any(np.shares_memory(row, other) for other, _ in golden.rows(2))


def test_tables_of_hardware_and_golden_are_the_same():
    assert golden_linear.SIGMOID.tolist() == SIGMOID


@pytest.mark.parametrize("illegal", [
    dict(features=((0, 0),)), dict(features=((0, 1), (0, 1))), dict(features=((8, 0),)),
    dict(features=((0, 64),)), dict(lexical=3), dict(lexical=1 << 17), dict(bits=3),
    dict(fraction=11), dict(rate=9), dict(lexical_rate=-5)])
def test_an_illegal_option_is_named(illegal):
    with pytest.raises(ConfigError, match=f"linear.{next(iter(illegal))}"):
        LinearOptions(**illegal)
