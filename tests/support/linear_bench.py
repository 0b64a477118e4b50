"""Plays tokens and observations into the linear predictor, and into golden."""

import dataclasses
import random

import numpy as np
from amaranth.hdl import Const
from amaranth.sim import Simulator

from stmoe.config import AcceleratorConfig, Geometry, LinearOptions, ModelShape
from stmoe.predict.linear import LinearPredictor
from stmoe_golden.predict import combined as golden_combined
from stmoe_golden.predict import linear as golden_linear
from stmoe_golden.predict.predictor import Shape
from stmoe_sim.lexical import identity_rows

from .prediction_bench import Taker

__all__ = ["PLAIN", "Bench", "Expected", "check", "geometry", "golden_rows", "on_chip"]

COUNTERS = ("row_reads", "row_writes", "rows_added", "predicted")
PLAIN = {"features": ((0, 1), (0, 2), (0, 3), (1, 0)), "leaders": (), "lexical": 0, "pair": 0,
         "previous": 0, "lexical_store": "chip", "stages": 1, "fraction": 6}
ALL = dict(threshold=-(1 << 20), threshold_deep=-(1 << 20), limit=1 << 9)  # everything is put out


def geometry(layers, experts, top_k, shared=0):
    model = ModelShape(layers=layers, experts=experts, top_k=top_k, d_model=64, d_ff=32,
                       shared_experts=shared, shared_d_ff=32 if shared else 0)
    return Geometry(AcceleratorConfig(model=model, router_layers=0))


def on_chip(**options):
    """Options with rows by identity on chip, none unless asked for, of one stage."""
    return LinearOptions(**PLAIN | options)


class Expected:
    """What golden answers to operations, and what the hardware counts meanwhile.

    Of an ``observe`` with logits, a third item, ``Combined`` hears them if ``use_ahead`` is set.
    ``change`` is called with the predictor and the number of each operation before it is played.
    ``rounds``: (layer, expert, score) in order; the first ``least`` of each are never cut off.
    """

    def __init__(self, g, options, operations, prior=None, change=lambda golden, at: None):
        model = g.config.model
        self.shared = model.shared_units
        only = {"lexical_store", "weight_store", "window", "lookahead"}
        kind = golden_combined.Combined if options.lookahead else golden_linear.Linear
        if not options.lookahead:
            only |= {"gain", "gain_shift"}
        shared = {name: value for name, value in dataclasses.asdict(options).items()
                  if name not in only}
        self.golden = kind(Shape(model.layers, model.experts, model.top_k), **shared)
        if prior is not None:
            self.golden.prior = prior
        self.counts = dict.fromkeys(COUNTERS, 0)
        settings = {"enable": 1, "depth": 0, "token_depth": 0, "guess": 0, "use_ahead": 1, **ALL}
        self.rounds, self.least, off = [], [], True
        for at, (kind, *rest) in enumerate(operations):
            change(self.golden, at)
            if kind == "set":
                settings.update(rest[0])
            if kind in ("set", "wait"):
                continue
            layer, scores = rest[0] + 1 if kind == "observe" else 0, None
            if not settings["enable"]:
                off = True
            elif kind == "token":
                scores = self.golden.begin_token(rest[0], rest[1] or off)
                off = False
            elif not off:
                self.count(self.golden.rows(rest[0]), "row_reads", "row_writes")
                ahead = rest[2] if len(rest) > 2 and settings["use_ahead"] else None
                scores = self.golden.observe(rest[0], np.array(rest[1]),
                                             None if ahead is None else np.array(ahead))
            found = []
            if scores is not None:
                self.count(self.golden.rows(layer), "row_reads", "rows_added")
                found = self.ordered(layer, scores, settings["threshold"], settings["limit"])
            self.least.append(len(found))
            depth = settings["depth" if kind == "observe" else "token_depth"]
            for deep in range(layer + 1, min(layer + options.reach(depth), model.layers)
                              if scores is not None else 0):
                self.count(self.golden.staged_rows(deep, layer - 1), "row_reads", "rows_added")
                found += self.ordered(deep, self.golden.ahead_scores(deep),
                                      settings["threshold_deep"], settings["limit"])
            guessed = settings["guess"] * (layer == model.layers and not off)
            for later in range(min(options.reach(guessed), model.layers)):
                self.count(self.golden.guess_rows(later), "row_reads", "rows_added")
                found += self.ordered(later, self.golden.guess_scores(later),
                                      settings["threshold_deep"], settings["limit"])
            self.counts["predicted"] += len(found)
            self.rounds.append(found)

    def ordered(self, layer, scores, threshold, limit):
        order = np.argsort(-scores, kind="stable").tolist()
        found = [(e, int(scores[e])) for e in order if scores[e] >= threshold]
        first = self.golden.shape.experts
        return [(layer, first + unit, None) for unit in range(self.shared)] + [
            (layer, *each) for each in found[:limit]]

    def count(self, rows, *names):
        for name in names:
            self.counts[name] += len(rows)


class Bench:
    """Plays operations into the unit; collects rounds of candidates, counters and cycles.

    ``patient``: each operation waits until the round before it is over. Logits of an observation
    are offered from its first beat on, expert by expert in random order, in order if never stalled.
    """

    def __init__(self, unit, operations, *, seed=0, stall=0.3, patient=False):
        self.unit, self.operations, self.stall = unit, operations, stall
        self.patient = patient
        self.rng, self.sink_rng = random.Random(seed), random.Random(~seed)
        self.rounds, self.counts = [], dict.fromkeys(COUNTERS, 0)
        self.offered, self.taken, self.beats, self.cycle, self.idle = [], [], [], 0, 0
        experts = unit.shape.experts
        top = (1 << unit.shape.score_bits - 1) - 1
        self.largest = {"threshold": top, "threshold_deep": top, "limit": experts}
        self.expected = sum(op[0] in ("token", "observe") for op in operations)
        self.weights = self.lexical = self.gains = None
        self.logits, self.heard = [], []  # beats still to be offered; cycles of last ones
        sim = Simulator(unit)
        sim.add_clock(1e-8)
        sim.add_testbench(self.stimulus)
        sim.add_testbench(self.sink)
        sim.add_testbench(self.monitor, background=True)
        if unit.options.lookahead:
            sim.add_testbench(self.look, background=True)
        self.attach(sim)
        sim.run()

    def attach(self, sim):
        """Adds what else is connected to the unit."""

    def apply(self, ctx, settings):
        for name, value in settings.items():
            top = self.largest.get(name, value)
            ctx.set(getattr(self.unit, name), max(-top, min(top, value)))

    async def put(self, ctx, port, payload):
        while self.rng.random() < self.stall:
            await ctx.tick()
        ctx.set(port.payload, payload)
        ctx.set(port.valid, 1)
        self.offered.append(self.cycle)
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
        if unit.options.lookahead:
            self.apply(ctx, {"use_ahead": 1})
        for kind, *rest in self.operations:
            if self.patient:
                await self.quiet(ctx)
            if kind == "token":
                identity, first = rest
                await self.put(ctx, unit.token, {
                    "identity": max(0, identity), "known": identity >= 0, "first": first})
            elif kind == "observe":
                layer, experts, *logits = rest
                ahead = logits[0] if logits else None
                if ahead is not None:
                    order = list(range(len(ahead)))
                    if self.stall:
                        self.rng.shuffle(order)
                    self.logits += [{"expert": e, "logit": ahead[e], "last": e == order[-1]}
                                    for e in order]
                for rank, expert in enumerate(experts):
                    last = rank == len(experts) - 1
                    if unit.options.lookahead:  # looked at with the last beat only
                        ctx.set(unit.ahead_due, last == (ahead is not None))
                    await self.put(ctx, unit.observe, {
                        "layer": layer, "expert": expert, "last": last})
            elif kind == "wait":
                for _ in range(rest[0]):
                    await ctx.tick()
            else:
                await self.quiet(ctx)
                self.apply(ctx, rest[0])
                continue
        await self.quiet(ctx)
        if unit.weights.data is not None:
            self.weights = self.contents(ctx, unit.weights.data)
        if unit.options.lookahead:
            assert not self.logits, f"{len(self.logits)} logits were not taken"
            self.gains = [ctx.get(unit.margin.gains[layer]) for layer in range(unit.shape.layers)]
        if unit.weights.lexical_data is not None:
            self.lexical = self.contents(ctx, unit.weights.lexical_data)

    def contents(self, ctx, memory):
        """int [row, expert], what the memory holds."""
        bits = self.unit.options.bits
        rows = [[ctx.get(memory[at]) >> bits * e & (1 << bits) - 1
                 for e in range(self.unit.shape.experts)] for at in range(memory.depth)]
        values = np.array(rows)
        return values - (values >> bits - 1 << bits)

    async def look(self, ctx):
        port, rng = self.unit.ahead, random.Random(self.rng.random())
        while True:
            if not self.logits or rng.random() < self.stall:
                ctx.set(port.valid, 0)
                await ctx.tick()
                continue
            ctx.set(port.payload, self.logits[0])
            ctx.set(port.valid, 1)
            await ctx.tick().until(port.ready)
            self.logits.pop(0)

    async def sink(self, ctx):
        port, current = self.unit.candidates, []
        taker = Taker(port, self.sink_rng, self.stall)
        while len(self.rounds) < self.expected:
            if (beat := await taker.take(ctx)) is not None:
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
        ahead = getattr(unit, "ahead", None)
        heard = ahead.valid & ahead.ready & ahead.payload.last if ahead else Const(0)
        ports = [getattr(unit, name) for name in COUNTERS]
        async for _, _, took, gave, busy, told, *values in ctx.tick().sample(
                taken, beat, unit.busy, heard, *ports):
            self.cycle += 1
            if busy:
                self.idle = self.cycle + 1
            if told:
                self.heard.append(self.cycle)
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
    layers, experts = golden.bias.shape
    lags = [np.moveaxis(rows, 0, 1).reshape(layers, -1, experts)
            for rows in (golden.weight, golden.leader)]
    return np.concatenate([bias, *lags], 1).reshape(-1, experts)


def check(g, options, operations, *, lanes=4, **how):
    """Rounds, weights and counters of the unit against golden's; returns bench and expectation.

    Without ``patient`` what is deep may be cut off: ``cut`` of the bench says how much was, and
    counters are then not compared.
    """
    want = Expected(g, options, operations)
    bench = Bench(LinearPredictor(g, options, lanes=lanes), operations, **how)
    context, bench.cut = f"{options}, {how}", 0
    for at, (found, wanted, least) in enumerate(zip(bench.rounds, want.rounds, want.least,
                                                    strict=True)):
        if not how.get("patient"):
            bench.cut += len(wanted) - len(found)
            wanted = wanted[:max(least, len(found))]
        assert found == wanted, f"round {at}, {context}: {found} is not {wanted}"
    np.testing.assert_array_equal(bench.weights, golden_rows(want.golden), context)
    if bench.lexical is not None:
        rows = identity_rows(want.golden).reshape(-1, g.config.model.experts)
        np.testing.assert_array_equal(bench.lexical, rows, context)
    assert bench.cut or bench.counts == want.counts, context
    return bench, want
