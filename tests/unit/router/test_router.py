"""The router against golden: logits, ranking with ties, every gate function, stalls."""

import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from stmoe.config import AcceleratorConfig, Geometry, ModelShape
from stmoe.router.router import Router
from stmoe_golden.router.router import GateMode, ahead_logits, route


def geometry(experts=12, top_k=3, blocks=2, **more):
    model = ModelShape(layers=5, experts=experts, top_k=top_k, d_model=32, d_ff=16)
    return Geometry(AcceleratorConfig(**{
        "model": model, "rows": 4, "lanes": 8, "router_layers": blocks, **more}))


async def send(ctx, port, words, rng, stall):
    for word in words:
        while rng.random() < stall:
            await ctx.tick()
        ctx.set(port.payload, word)
        ctx.set(port.valid, 1)
        taken = False
        while not taken:
            *_, taken = await ctx.tick().sample(port.ready)
        ctx.set(port.valid, 0)


def words(values, lanes):
    raw = values.astype(np.int8).tobytes()
    return [int.from_bytes(raw[i:i + lanes], "little") for i in range(0, len(raw), lanes)]


def play(g, tokens, *, seed=0, stall=0.3, mode=0, renormalise=1, mult=40, shift=12, flip=False,
         scale=128):
    """Route tokens by random layers; loaded weights, answers and golden's answers."""
    dut, rng, noise = Router(g), random.Random(seed), np.random.default_rng(seed)
    model, lanes = g.config.model, g.config.lanes
    blocks = {}
    got, want = [], []
    cycles = []

    async def bench(ctx):
        for name, value in {"in_words": g.in_words, "experts": model.experts, "mode": mode,
                            "renormalise": renormalise, "mult": mult, "shift": shift}.items():
            ctx.set(getattr(dut, name), value)
        for layer in (1, 4):
            matrix = noise.integers(-scale, scale, (model.experts, model.d_model))
            matrix[3] = matrix[1]  # a tie
            blocks[layer] = matrix.astype(np.int8)
            ctx.set(dut.load_layer, layer)
            ctx.set(dut.load_start, 1)
            await ctx.tick()
            ctx.set(dut.load_start, 0)
            await send(ctx, dut.load, words(matrix, lanes), rng, stall)
        for _ in range(tokens):
            layer = rng.choice([1, 4][-g.config.router_layers:])
            x = noise.integers(-scale, scale, model.d_model).astype(np.int8)
            want.append(route(blocks[layer], x, model.top_k, mode=GateMode(mode),
                              renormalise=bool(renormalise), mult=mult, shift=shift))
            x[0] ^= flip
            await send(ctx, dut.x, words(x, lanes), rng, stall)
            await send(ctx, dut.route, [{"layer": layer, "route": 1}], rng, stall)
            answer, last, waited = [], False, 0
            while not last:
                ready = rng.random() >= stall
                ctx.set(dut.gates.ready, ready)
                *_, valid, payload = await ctx.tick().sample(dut.gates.valid, dut.gates.payload)
                waited += 1
                assert waited < 2000, "the router hangs"
                if valid and ready:
                    answer.append((payload.expert, payload.gate))
                    last = payload.last
            ctx.set(dut.gates.ready, 0)
            got.append(answer)
            cycles.append(waited)
    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return got, want, cycles


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("renormalise", [0, 1])
@pytest.mark.parametrize("more", [{}, {"experts": 17, "top_k": 5, "blocks": 1},
                                  {"experts": 16, "top_k": 1, "rows": 8},
                                  {"experts": 8, "top_k": 8, "rows": 8, "blocks": 1}])
def test_routing_and_gates_equal_golden(mode, renormalise, more):
    got, want, _ = play(geometry(**more), 12, mode=mode, renormalise=renormalise)
    assert got == want


@pytest.mark.parametrize("mult, shift", [(65535, 0), (1, 63), (0, 5), (3000, 20)])
@pytest.mark.parametrize("mode", [0, 1])
def test_scales_at_their_ends(mult, shift, mode):
    got, want, _ = play(geometry(), 6, seed=2, mode=mode, mult=mult, shift=shift)
    assert got == want


def test_ties_go_to_the_lower_id():
    got, want, _ = play(geometry(), 12, seed=3, scale=2)
    assert got == want
    assert any(len({gate for _, gate in answer}) < 3 for answer in got)


def test_a_changed_activation_is_noticed():
    got, want, _ = play(geometry(), 6, flip=True)
    assert got != want


class Looking:
    """Tokens routed, looked ahead of, both or neither, while activations and logits stall."""

    def __init__(self, g, orders, *, seed=0, stall=0.3, scale=(40, 12), experts=None, wrong=0):
        self.g, self.orders, self.stall, self.wrong = g, orders, stall, wrong
        self.dut, self.scale = Router(g, lookahead=True), scale
        self.experts = experts or g.config.model.experts
        self.rng, self.noise = random.Random(seed), np.random.default_rng(seed)
        self.blocks, self.gates, self.ahead = {}, [], []
        self.want_gates, self.want_ahead, self.cycle = [], [], 0
        self.gates_at, self.ahead_at, self.taken = [], [], []
        self.routes = sum(route for _, route, _ in orders)
        self.looks = sum(ahead for *_, ahead in orders)
        sim = Simulator(self.dut)
        sim.add_clock(1e-8)
        sim.add_testbench(self.play)
        for sink in (self.sink(self.dut.gates, "gate", self.gates, self.routes, self.gates_at),
                     self.sink(self.dut.ahead, "logit", self.ahead, self.looks, self.ahead_at)):
            sim.add_testbench(sink)
        sim.add_testbench(self.count, background=True)
        sim.run()

    async def play(self, ctx):
        g, dut, rng, model = self.g, self.dut, self.rng, self.g.config.model
        mult, shift = self.scale
        for name, value in {"in_words": g.in_words, "experts": self.experts, "renormalise": 1,
                            "mult": 40, "shift": 12, "ahead_mult": mult,
                            "ahead_shift": shift}.items():
            ctx.set(getattr(dut, name), value)
        for layer in (1, 2):
            matrix = self.noise.integers(-128, 128, (model.experts, model.d_model))
            self.blocks[layer] = matrix.astype(np.int8)
            ctx.set(dut.load_layer, layer)
            ctx.set(dut.load_start, 1)
            await ctx.tick()
            ctx.set(dut.load_start, 0)
            await send(ctx, dut.load, words(matrix, g.config.lanes), rng, 0)
        for layer, routes, ahead in self.orders:
            x = self.noise.integers(-128, 128, model.d_model).astype(np.int8)
            if routes:
                self.want_gates.append(route(
                    self.blocks[layer][:self.experts], x, model.top_k, mode=GateMode.SOFTMAX,
                    renormalise=True, mult=40, shift=12))
            if ahead:
                found = ahead_logits(self.blocks[layer + 1][:self.experts], x, mult, shift)
                self.want_ahead.append(list(enumerate(found.tolist())))
            await send(ctx, dut.x, words(x, g.config.lanes), rng, self.stall)
            ctx.set(dut.ahead_mult, mult + self.wrong)
            order = {"layer": layer, "route": routes, "ahead": ahead}
            await send(ctx, dut.route, [order], rng, self.stall)
            self.taken.append(self.cycle)
            ctx.set(dut.ahead_mult, 0)  # settled when the order was taken
        while len(self.gates) < self.routes or len(self.ahead) < self.looks:
            assert self.cycle < 20000, "the router hangs"
            await ctx.tick()

    def sink(self, port, value, into, count, at):
        async def collect(ctx):
            rng, answer = random.Random(count), []
            while len(into) < count:
                ready = rng.random() >= self.stall
                ctx.set(port.ready, ready)
                *_, valid, beat = await ctx.tick().sample(port.valid, port.payload)
                if valid and ready:
                    answer.append((beat.expert, getattr(beat, value)))
                    if beat.last:
                        into.append(answer)
                        at.append(self.cycle)
                        answer = []
            ctx.set(port.ready, 0)
        return collect

    async def count(self, ctx):
        async for _ in ctx.tick():
            self.cycle += 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [(40, 12), (65535, 0), (3000, 20)])
def test_logits_of_the_next_layer_follow_the_gates(seed, scale):
    rng = random.Random(seed)
    orders = [(1, rng.random() < 0.6, rng.random() < 0.7) for _ in range(12)]
    orders += [(2, 1, 0), (1, 0, 1), (1, 1, 1)]
    run = Looking(geometry(experts=11, blocks=2), orders, seed=seed, stall=0.2 * seed, scale=scale,
                  experts=[11, 9][seed % 2])
    assert run.gates == run.want_gates
    assert run.ahead == run.want_ahead


def test_a_wrong_scale_of_logits_is_noticed():
    run = Looking(geometry(), [(1, 1, 1)], wrong=1)
    assert run.gates == run.want_gates and run.ahead != run.want_ahead


def test_looking_ahead_delays_no_gate_and_no_later_activations():
    g = geometry(experts=32, top_k=4)
    alone = Looking(g, [(1, 1, 0), (1, 0, 0)], stall=0)
    run = Looking(g, [(1, 1, 1), (1, 0, 0)], stall=0)
    assert run.gates_at == alone.gates_at
    pass_cycles = 32 // run.dut.rows * g.in_words
    assert run.ahead_at[0] - run.gates_at[0] <= pass_cycles + run.dut.rows + 12
    assert 0 < run.taken[1] - alone.taken[1] <= pass_cycles + run.dut.rows + 12


def test_latency_is_as_stated():
    g = geometry(experts=32, top_k=4)
    _, _, cycles = play(g, 3, stall=0)
    assert max(cycles) <= 8 * g.in_words + 3 * 4 + 40
