"""Plays tokens and observations into a prediction unit."""

import random

from amaranth.sim import Simulator

from stmoe.config import AcceleratorConfig, Geometry, ModelShape
from stmoe.predict import PredictionUnit

__all__ = ["COUNTERS", "Bench", "Taker", "geometry"]

COUNTERS = ("table_reads", "table_writes", "score_adds", "predicted")


def geometry(layers, experts, top_k, shared=0, predictor="table"):
    model = ModelShape(layers=layers, experts=experts, top_k=top_k, d_model=64, d_ff=32,
                       shared_experts=shared, shared_d_ff=32 if shared else 0)
    return Geometry(AcceleratorConfig(model=model, predictor=predictor, router_layers=0))


class Taker:
    """Takes beats of a stream now and then; a beat that is not taken must hold."""

    def __init__(self, port, rng, stall):
        self.port, self.rng, self.stall, self.held = port, rng, stall, None

    async def take(self, ctx):
        """One cycle; the beat that was taken in it, or None."""
        port, ready = self.port, self.rng.random() >= self.stall
        ctx.set(port.ready, ready)
        _, _, valid, beat = await ctx.tick().sample(port.valid, port.payload)
        assert self.held is None or (valid and beat == self.held), "beat not held"
        self.held = beat if valid and not ready else None
        return beat if valid and ready else None


class Bench:
    """Plays operations into a unit, all of them by default; collects rounds of candidates, counters
    and cycles.

    Operations: ("observe", layer, experts, first of its sequence), ("token", first), ("load", table
    rows), ("clear",), ("set", settings by name).
    """

    def __init__(self, g, operations, *, seed=0, stall=0.3, unit=None):
        self.unit = unit or PredictionUnit(g)
        self.operations, self.stall = operations, stall
        self.rng, self.sink_rng = random.Random(seed), random.Random(~seed)
        self.rounds, self.counts = [], dict.fromkeys(COUNTERS, 0)
        self.last_beats, self.firsts, self.ends, self.cycle = [], [], [], 0
        self.expected = sum(op[0] in ("observe", "token") for op in operations)
        sim = Simulator(self.unit)
        sim.add_clock(1e-8)
        sim.add_testbench(self.stimulus)
        sim.add_testbench(self.sink)
        sim.add_testbench(self.monitor, background=True)
        sim.run()

    async def put(self, ctx, port, payload):
        while self.rng.random() < self.stall:
            await ctx.tick()
        ctx.set(port.payload, payload)
        ctx.set(port.valid, 1)
        await ctx.tick().until(port.ready)
        ctx.set(port.valid, 0)

    async def stimulus(self, ctx):
        unit = self.unit
        for name, value in dict(enable=1, use_cct=1, use_ht=1, threshold=2,
                                layers=unit.geometry.config.model.layers).items():
            ctx.set(unit.settings[name], value)
        for kind, *rest in self.operations:
            if kind == "observe":
                layer, experts, first = rest
                for expert in experts:
                    await self.put(ctx, unit.observe, {
                        "layer": layer, "expert": expert, "first_token": first,
                        "last": expert == experts[-1]})
                self.last_beats.append(self.cycle - 1)
            elif kind == "token":
                await self.put(ctx, unit.token, {"identity": 7, "known": 1, "first": rest[0]})
            elif kind == "load":
                for (layer, expert), (ids, conf) in rest[0].items():
                    await self.put(ctx, unit.load, {
                        "layer": layer, "expert": expert,
                        "entries": [i | c << 14 for i, c in zip(ids, conf, strict=True)]})
            elif kind == "clear":
                ctx.set(unit.clear, 1)
                await ctx.tick()
                ctx.set(unit.clear, 0)
            elif kind == "set":
                await ctx.tick()
                while ctx.get(unit.busy):
                    await ctx.tick()
                for name, value in rest[0].items():
                    ctx.set(unit.settings[name], value)
        while ctx.get(unit.busy) or len(self.rounds) < self.expected:
            assert self.cycle < 200000, f"{len(self.rounds)} of {self.expected} rounds"
            await ctx.tick()

    async def sink(self, ctx):
        port, current = self.unit.candidates, []
        taker = Taker(port, self.sink_rng, self.stall)
        while len(self.rounds) < self.expected:
            if (beat := await taker.take(ctx)) is not None:
                if len(self.firsts) == len(self.rounds):
                    self.firsts.append(self.cycle)
                if beat.end:
                    self.ends.append(self.cycle)
                    self.rounds.append(current)
                    current = []
                else:
                    current.append((beat.layer, beat.expert, beat.score))
        ctx.set(port.ready, 0)

    async def monitor(self, ctx):
        ports = [getattr(self.unit, name) for name in COUNTERS]
        async for _, _, *values in ctx.tick().sample(*ports):
            self.cycle += 1
            for name, value in zip(COUNTERS, values, strict=True):
                self.counts[name] += value
