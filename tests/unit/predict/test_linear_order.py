"""Order, ties, limits and pace of the linear predictor's candidates."""

import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from stmoe.config import AcceleratorConfig, Geometry, ModelShape
from stmoe.predict.linear_order import ScoreOrder
from stmoe.predict.linear_shape import LinearOptions, LinearShape


def shape_of(experts, top_k=2):
    model = ModelShape(layers=2, experts=experts, top_k=top_k, d_model=64, d_ff=32)
    return LinearShape(Geometry(AcceleratorConfig(model=model, router_layers=0)), LinearOptions())


def play(shape, rounds, *, stall=0.0, seed=0):
    """(expert, score) of every round of (scores, threshold, limit, experts), and cycles of beats
    from ``start`` on."""
    unit, rng, found = ScoreOrder(shape), random.Random(seed), []

    async def bench(ctx):
        for scores, threshold, limit, experts in rounds:
            ctx.set(unit.scores, scores)
            for name, value in (("threshold", threshold), ("limit", limit), ("experts", experts)):
                ctx.set(getattr(unit, name), value)
            await ctx.tick()
            ctx.set(unit.start, 1)
            ctx.set(unit.predict, 1)
            ctx.set(unit.close, 1)
            out, cycles, cycle, ended = [], [], 0, False
            while not ended:
                assert cycle < 10000, found
                ctx.set(unit.candidates.ready, rng.random() >= stall)
                _, _, taken, beat = await ctx.tick().sample(
                    unit.candidates.valid & unit.candidates.ready, unit.candidates.payload)
                ctx.set(unit.start, 0)
                if taken:
                    cycles.append(cycle)
                    ended = beat.end
                    out.append((beat.expert, beat.score))
                cycle += 1
            found.append((out[:-1], cycles))

    sim = Simulator(unit)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    return found


def expected(scores, threshold, limit, experts):
    order = np.argsort(-np.array(scores[:experts]), kind="stable").tolist()
    return [(e, scores[e]) for e in order if scores[e] >= threshold][:limit]


@pytest.mark.parametrize("experts, count", [(2, 6), (16, 6), (33, 6), (128, 3)])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_order_is_that_of_a_stable_sort(experts, count, stall):
    shape, rng = shape_of(experts, 1), random.Random(experts)
    top = (1 << shape.score_bits - 1) - 1
    rounds = []
    for spread in (1, 3, top)[:count] * (count // 3):
        scores = [rng.randint(-spread, spread) for _ in range(experts)]
        rounds.append((scores, rng.choice([-top - 1, -1, 0, 1]), rng.randint(1, experts),
                       rng.randint(1, experts)))
    for wanted, (found, _) in zip(rounds, play(shape, rounds, stall=stall), strict=True):
        assert found == expected(*wanted), (wanted, stall)


def test_lowest_scores_and_no_threshold_still_end():
    shape = shape_of(8)
    low = -(1 << shape.score_bits - 1)
    found = play(shape, [([low + 1] * 8, low, 8, 8), ([low + 1] * 8, low, 0, 8)])
    assert [out for out, _ in found] == [[(e, low + 1) for e in range(8)], []]


def test_first_beat_after_the_groups_then_one_every_four_cycles():
    found = play(shape_of(128), [(list(range(128)), 100, 128, 128)])
    assert found[0][1] == [128 // 16 + 4 + 4 * i for i in range(29)]
