"""The router against golden: logits, ranking with ties, every gate function, stalls."""

import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from stmoe.config import AcceleratorConfig, Geometry, ModelShape
from stmoe.router.router import Router
from stmoe_golden.router.router import GateMode, route


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
            await send(ctx, dut.route, [layer], rng, stall)
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


def test_latency_is_as_stated():
    g = geometry(experts=32, top_k=4)
    _, _, cycles = play(g, 3, stall=0)
    assert max(cycles) <= 8 * g.in_words + 3 * 4 + 40
