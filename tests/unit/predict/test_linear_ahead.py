"""The linear predictor with look-ahead logits against golden ``Combined``, with stalls."""

import dataclasses
import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from stmoe.predict.linear import LinearPredictor
from stmoe.predict.linear_margin import AheadMargin
from stmoe.predict.linear_shape import LinearShape
from stmoe_golden.predict import combined as golden_combined
from support.linear_bench import Bench, Expected, geometry, golden_rows, on_chip

LOWEST, HIGHEST = -(1 << 15), (1 << 15) - 1  # of a logit


def near(rng, experts, routed):
    """Logits that mostly tell what is routed next."""
    return [rng.randint(-300, 300) + 350 * (e in routed) for e in range(experts)]


def equal(rng, experts, routed):
    """Few values, so that the k-th largest and scores are equal to others."""
    return [rng.choice([-64, 0, 0, 64]) for _ in range(experts)]


def extreme(rng, experts, routed):
    """Ends of the range, and margins about where they saturate."""
    base = rng.choice([LOWEST, -20, HIGHEST - 600])
    return [rng.choice([LOWEST, base, base + 511, base + 512, base + 513, HIGHEST])
            for _ in range(experts)]


def helpful(rng, experts, routed):
    return [rng.choice([200, 700]) if e in routed else -200 for e in range(experts)]


def misleading(rng, experts, routed):
    return [-logit for logit in helpful(rng, experts, routed)]


def tokens(g, count, seed, *, logits=near, missing=0.0, sequence=6):
    """Tokens, their routing, and logits of the next layer for all but a share of ``missing``.

    Behind the last layer logits are as likely: nobody may hear them.
    """
    rng, (layers, experts, top_k) = random.Random(seed), shape_of(g)
    operations = []
    for t in range(count):
        operations.append(("token", rng.randrange(-1, 12), t % sequence == 0))
        base = rng.randrange(experts)
        routed = [rng.sample([(base + 3 * layer + i) % experts
                              for i in range(min(experts, 2 * top_k))], top_k)
                  for layer in range(layers + 1)]
        for layer in range(layers):
            ahead = logits(rng, experts, routed[layer + 1]) if rng.random() >= missing else None
            operations.append(("observe", layer, routed[layer], ahead))
    return operations


def shape_of(g):
    model = g.config.model
    return model.layers, model.experts, model.top_k


def check(g, options, operations, *, lanes=4, **bench_options):
    want = Expected(g, options, operations)
    bench = Bench(LinearPredictor(g, options, lanes=lanes), operations, **bench_options)
    compare(bench, want, f"{options}, {bench_options}")
    return bench, want


def compare(bench, want, context):
    for at, (found, wanted) in enumerate(zip(bench.rounds, want.rounds, strict=True)):
        assert found == wanted, f"round {at}, {context}: {found} is not {wanted}"
    np.testing.assert_array_equal(bench.weights, golden_rows(want.golden), context)
    if len(want.golden.lexical):
        np.testing.assert_array_equal(
            bench.lexical, want.golden.lexical.reshape(len(bench.lexical), -1), context)
    assert bench.gains == want.golden.gain.tolist(), context
    assert bench.counts == want.counts, context


SHAPES = {
    "default features": ((4, 8, 2), {}, near),
    "lexical rows, 8 bits": ((4, 8, 2), dict(bits=8, fraction=5, lexical=8), near),
    "two experts": ((3, 2, 1), dict(features=((0, 1),)), near),
    "17 experts": ((3, 17, 3), dict(features=((1, 0), (0, 2)), lexical=4), near),
    "ties": ((3, 12, 3), dict(features=()), equal),
    "ends of the range": ((3, 10, 2), dict(features=((0, 1),)), extreme),
    "all experts routed": ((3, 4, 4), dict(lexical=2), extreme),
    "one layer": ((1, 8, 2), dict(features=((1, 0),)), near),
    "finest and coarsest": ((3, 8, 2), dict(bits=16, fraction=10, gain=4095), extreme),
    "coarse": ((3, 8, 2), dict(bits=6, fraction=4, gain=3, gain_shift=24), near),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_scores_order_weights_and_gains_equal_golden(name, stall):
    shape, options, logits = SHAPES[name]
    g = geometry(*shape)
    options = on_chip(**{"lookahead": True, "gain_shift": 9, **options})
    bench, _ = check(g, options, tokens(g, 10, seed=shape[1], logits=logits), seed=5,
                     stall=stall)
    moved = set(bench.gains) != {options.gain}
    assert moved == (shape[0] > 1 and options.gain_shift < 24)


@pytest.mark.parametrize("lanes", [1, 2, 8, 16])
def test_any_number_of_lanes(lanes):
    g = geometry(3, 9, 2)
    options = on_chip(lookahead=True, gain_shift=9, features=((0, 1),))
    check(g, options, tokens(g, 10, seed=lanes), lanes=lanes, seed=lanes)


def test_rounds_with_logits_and_without_take_turns():
    g = geometry(4, 8, 2)
    options = on_chip(lookahead=True, gain_shift=9, lexical=8)
    check(g, options, tokens(g, 20, seed=6, missing=0.4), seed=6)


def test_without_any_logits_it_is_linear():
    g = geometry(3, 8, 2)
    options = on_chip(lookahead=True, lexical=4)
    operations = tokens(g, 10, seed=7, missing=1)
    bench, _ = check(g, options, operations, seed=7)
    linear = Expected(g, on_chip(lexical=4), operations)
    assert bench.rounds == linear.rounds and set(bench.gains) == {128}


def test_logits_are_taken_and_forgotten_while_they_are_not_used():
    g = geometry(4, 8, 2)
    options = on_chip(lookahead=True, gain_shift=9, features=((0, 1), (1, 0)))
    rng, operations = random.Random(8), []
    for operation in tokens(g, 25, seed=8, missing=0.2):
        if rng.random() < 0.3:
            operations.append(("set", {"use_ahead": rng.randrange(2)}))
        operations.append(operation)
    bench, _ = check(g, options, operations, seed=8)
    off, _ = check(g, options, [("set", {"use_ahead": 0}), *tokens(g, 6, seed=8)])
    assert set(off.gains) == {128} != set(bench.gains)


@pytest.mark.parametrize("seed", range(2))
def test_limit_threshold_and_enable_change_at_any_time(seed):
    g = geometry(3, 20, 3, shared=seed)
    rng, operations = random.Random(seed), []
    for operation in tokens(g, 18, seed, missing=0.2, sequence=9):
        if rng.random() < 0.25:
            operations.append(("set", {
                "enable": rng.random() < 0.8, "limit": rng.choice([0, 1, 3, 6, 20]),
                "threshold": rng.choice([-5000, -400, -60, 0, 100])}))
        operations.append(operation)
    options = on_chip(lookahead=True, gain_shift=9, features=((0, 1), (1, 0)), lexical=4)
    check(g, options, operations, seed=seed)


def test_deep_scores_have_no_margin():
    g = geometry(4, 8, 2)
    options = on_chip(lookahead=True, gain_shift=9, lexical=4)
    operations = [("set", {"depth": 3, "token_depth": 4}), *tokens(g, 8, seed=9, missing=0.2)]
    check(g, options, operations, seed=9, patient=True)


def test_fewer_layers_and_experts_at_run_time():
    options = on_chip(lookahead=True, gain_shift=9)
    unit = LinearPredictor(geometry(5, 16, 2), options)
    few, prior = geometry(3, 6, 2), unit.shape.prior
    many = tokens(geometry(5, 16, 2), 2, seed=1, logits=lambda *_: [HIGHEST] * 16)
    # Logits of all experts come first: what they leave behind is neither margin nor error.
    first = [("set", {"experts": 16, "layers": 5, "use_ahead": 0, "enable": 0}), *many,
             ("set", {"experts": 6, "layers": 3, "use_ahead": 1, "enable": 1})]
    operations = tokens(few, 12, seed=2)
    want = Expected(few, options, operations, prior=prior)
    bench = Bench(unit, [*first, *operations], seed=2)
    assert bench.rounds[len(bench.rounds) - len(want.rounds):] == want.rounds
    assert bench.gains == [*want.golden.gain.tolist(), 128, 128]


@pytest.mark.parametrize(("logits", "end"), [(helpful, 4095), (misleading, 0)])
def test_gains_saturate(logits, end):
    g = geometry(2, 8, 2)
    options = on_chip(lookahead=True, gain_shift=8, gain=4000 if end else 100, features=())
    operations = tokens(g, 25, seed=3, logits=logits)
    bench, _ = check(g, options, operations, stall=0.1)
    assert bench.gains[1] == end
    operations += tokens(g, 6, seed=4, logits=misleading if end else helpful)
    bench, _ = check(g, options, operations, stall=0.1)
    assert bench.gains[1] != end


def test_margins_saturate_at_both_ends():
    rng = random.Random(1)
    found = golden_combined.margins(
        np.array([extreme(rng, 10, ()) for _ in range(50)]), 2)
    assert found.min() == -512 and found.max() == 511


BREAKS = {
    "gain at the start": dict(gain=129),
    "step of a gain": dict(gain_shift=10),
    "least is the next rank": "rank",
    "margin": "margin",
    "end of a margin": "end",
    "rounding": "rounding",
    "a gain of the wrong layer": "layer",
    "gain not learned": "still",
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_wrong_golden_is_noticed(name, monkeypatch):
    g, broken = geometry(4, 8, 2), BREAKS[name]
    options = on_chip(lookahead=True, gain_shift=9, features=((0, 1),))
    operations = tokens(g, 10, seed=1, logits=extreme if broken == "end" else near)
    bench, _ = check(g, options, operations, stall=0)
    wrong, right = options, golden_combined.margins
    kind, term = golden_combined.Combined, golden_combined.Combined.term
    if isinstance(broken, dict):
        wrong = dataclasses.replace(options, **broken)
    elif broken == "rounding":
        monkeypatch.setattr(golden_combined, "shifted", lambda value, shift: value >> shift)
    elif broken == "layer":
        monkeypatch.setattr(kind, "term", lambda self, layer, ahead: term(
            self, layer and (layer % 3 + 1), ahead))
    elif broken == "still":
        monkeypatch.setattr(kind, "learn", golden_combined.Linear.learn)
    else:
        monkeypatch.setattr(golden_combined, "margins", {
            "rank": lambda ahead, top_k: right(ahead, top_k + 1),
            "margin": lambda ahead, top_k: right(ahead, top_k) + 1,
            "end": lambda ahead, top_k: np.minimum(right(ahead, top_k), 510)}[broken])
    with pytest.raises(AssertionError):
        compare(bench, Expected(g, wrong, operations), name)


def test_latency_behind_the_last_logit_at_128_experts():
    g = geometry(5, 128, 8)
    options = on_chip(lookahead=True, lexical=2)
    operations = [("set", {"limit": 12}), *tokens(g, 2, seed=4)]
    operations[1], operations[7] = ("token", 1, True), ("token", 1, False)
    bench, _ = check(g, options, operations, stall=0)
    at = 10  # the last round that predicts: all four features apply, and the lexical row
    assert len(bench.rounds[at]) == 12 and bench.rounds[at][0][0] == 4
    heard, first = bench.heard[at - 2], bench.beats[at][0]  # no logits at the two tokens
    assert heard - bench.taken[at] >= 2 + 4 * 8 + 5  # the rows were added meanwhile
    assert first - heard == 128 // 4 + 128 // 16 + 9 == 49


@pytest.mark.parametrize(("experts", "lanes"), [(9, 4), (3, 4), (8, 1)])
def test_pace_of_the_terms(experts, lanes):
    unit = AheadMargin(LinearShape(geometry(2, experts, 2), on_chip(lookahead=True)), lanes)
    groups, found, active = -(-experts // lanes), [], 0

    async def watch(ctx):
        nonlocal active
        ctx.set(unit.start, 1)
        await ctx.tick()
        ctx.set(unit.start, 0)
        for cycle in range(1, groups + 10):
            active += ctx.get(unit.active)
            if ctx.get(unit.term.valid):
                found.append((cycle, ctx.get(unit.term.group)))
            await ctx.tick()
    sim = Simulator(unit)
    sim.add_clock(1e-8)
    sim.add_testbench(watch)
    sim.run()
    assert found == [(4 + group, group) for group in range(groups)]
    assert active == groups + 3
