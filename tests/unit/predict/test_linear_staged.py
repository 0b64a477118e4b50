"""Rows in three stages, leaders, and rows by pair and previous token, against golden."""

import random

import numpy as np
import pytest

from stmoe.config import ConfigError
from stmoe.predict.linear import LinearPredictor
from stmoe.predict.linear_shape import LinearOptions
from support.linear_bench import Bench, Expected, check, geometry, on_chip

ALL = dict(features=((0, 1), (1, 0), (0, 3), (0, 2)), leaders=((0, 2), (1, 1), (0, 1)), lexical=8,
           pair=16, previous=4, stages=3)
SETS = {
    "stages alone": dict(stages=3, lexical=8),
    "stages and leaders": dict(ALL, pair=0, previous=0),
    "everything": ALL,
    "everything, one stage": dict(ALL, stages=1),
    "pair alone": dict(features=(), lexical=0, pair=8),
    "previous alone, last stage": dict(
        features=((0, 1),), lexical=0, previous=2, stages=3),
    "first stage alone": dict(features=((1, 0),), leaders=((2, 1),), pair=4, stages=3,
                              lexical_store="chip"),
    "bias, three stages": dict(features=(), lexical=0, stages=3),
    "leaders alone": dict(features=(), lexical=0, leaders=((0, 1), (2, 0), (0, 2))),
    "wide steps": dict(ALL, bits=16, fraction=10, rate=0, lexical_rate=0),
    "small weights": dict(ALL, bits=5, fraction=4, rate=-4, lexical_rate=-3),
}
SHAPES = [(5, 8, 2), (3, 17, 3), (1, 4, 1), (2, 4, 4)]
DEEP = ("set", {"depth": 3, "token_depth": 5, "guess": 2, "threshold_deep": -140, "limit": 5})


def tokens(g, count, seed, *, sequence=5, identities=7):
    """Tokens that return, some unknown, with related experts across layers and tokens."""
    rng, model = random.Random(seed), g.config.model
    operations = []
    for t in range(count):
        identity = rng.choice([-1, *range(identities), (1 << 32) - 1 - rng.randrange(3)])
        operations.append(("token", identity, t % sequence == 0))
        for layer in range(model.layers):
            pool = [(identity + 3 * layer + i) % model.experts
                    for i in range(min(model.experts, 2 * model.top_k))]
            operations.append(("observe", layer, rng.sample(pool, model.top_k)))
    return operations


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("shape", SHAPES[:2])
def test_scores_order_and_weights_equal_golden(name, shape):
    g = geometry(*shape)
    check(g, on_chip(**SETS[name]), tokens(g, 16, seed=shape[1]), seed=5,
          stall=0.3 * (shape[1] == 8), lanes=3 if shape[1] == 17 else 4)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("patient", [True, False])
def test_deep_layers_have_the_score_of_what_is_known(name, patient):
    g = geometry(*SHAPES[0], shared=1)
    check(g, on_chip(**SETS[name]), [DEEP, *tokens(g, 9, seed=3)], seed=1, patient=patient)


@pytest.mark.parametrize("shape", SHAPES[2:])
def test_few_layers_or_all_experts(shape):
    g = geometry(*shape)
    check(g, on_chip(**ALL), [DEEP, *tokens(g, 9, seed=2)], patient=True)


def test_a_predictor_that_is_off_has_no_previous_token_afterwards():
    g = geometry(3, 8, 2)
    operations = tokens(g, 12, seed=6, sequence=30)
    for at in range(len(operations) - 1, 0, -5):
        operations.insert(at, ("set", {"enable": at // 5 % 2}))
    check(g, on_chip(**ALL), operations, patient=True)


def test_every_row_is_learned_and_saturates():
    g = geometry(3, 8, 2)
    _, want = check(g, on_chip(**dict(ALL, bits=5, fraction=6, rate=-4, lexical_rate=-4)),
                    tokens(g, 25, seed=8, sequence=12))
    golden = want.golden
    for rows in (golden.bias, golden.weight, golden.leader, golden.lexical, golden.pair,
                 golden.previous):
        assert rows.min() == -15 and rows.max() == 15


@pytest.mark.parametrize("broken", [
    dict(stages=1), dict(pair=2), dict(previous=1), dict(leaders=((0, 2), (0, 1))),
    "factor", "previous_shift", "early"])
def test_a_wrong_unit_is_noticed(broken, monkeypatch):
    g = geometry(4, 8, 2)
    operations = tokens(g, 12, seed=1, sequence=12)
    want = Expected(g, on_chip(**ALL), operations).rounds
    options = on_chip(**(dict(ALL, **broken) if isinstance(broken, dict) else ALL))
    shape = "stmoe.predict.linear_shape."
    if broken == "factor":
        monkeypatch.setattr(shape + "PAIR_SHIFT", 1)  # 16 rows: 4 would do no harm
    elif broken == "previous_shift":
        monkeypatch.setattr(shape + "LinearShape.previous_shift",
                            property(lambda self: self.lexical_shift))
    elif broken == "early":
        monkeypatch.setattr("stmoe.predict.linear_score.sigmoid_index", lambda shape, score: 128)
    assert Bench(LinearPredictor(g, options), operations, stall=0).rounds != want


WIDE = dict(features=((0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 0)), stages=3, fraction=7,
            leaders=((0, 1), (0, 2), (0, 3), (0, 4)), lexical=4, pair=4, previous=4,
            lexical_store="chip")


@pytest.mark.parametrize(("options", "rows", "first"), [
    (dict(stages=3, lexical=4, pair=4), 35, 54), (WIDE, 56, 75)])
def test_latency_at_128_experts(options, rows, first):
    g = geometry(7, 128, 8)
    operations = [("set", {"limit": 2}), *tokens(g, 2, seed=4, identities=2)]
    operations[1], operations[9] = ("token", 1, True), ("token", 0, False)
    bench, _ = check(g, on_chip(**options), operations, stall=0)
    at = 14  # the last round that predicts: all features and tables apply
    assert bench.rounds[at][0][0] == 6
    assert first == rows + 7 + 128 // 16 + 4 <= 96
    assert np.diff([bench.taken[at], *bench.beats[at]]).tolist() == [first, 4, 4]
    # Learned meanwhile: three passes over the experts, then the rows.
    assert bench.idle - bench.taken[-1] == 3 * 128 // 4 + rows + 13 < 500


@pytest.mark.parametrize("illegal", [
    dict(leaders=((0, 0),)), dict(leaders=((0, 1), (0, 1))), dict(leaders=3), dict(pair=3),
    dict(previous=1 << 17), dict(stages=2), dict(stages=0)])
def test_an_illegal_option_is_named(illegal):
    with pytest.raises(ConfigError, match=f"linear.{next(iter(illegal))}"):
        LinearOptions(**illegal)
