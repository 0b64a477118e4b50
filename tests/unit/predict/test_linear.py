"""The linear predictor against golden, round by round and weight by weight, with stalls."""

import dataclasses
import random

import numpy as np
import pytest

from stmoe.config import ConfigError
from stmoe.predict.linear import LinearPredictor
from stmoe.predict.linear_error import SIGMOID
from stmoe.predict.linear_shape import LinearOptions
from stmoe_golden.predict import linear as golden_linear
from stmoe_golden.predict.predictor import Shape
from support.linear_bench import Bench, Expected, check, geometry, on_chip


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


SHAPES = {
    "default features": ((5, 8, 2), {}),
    "8 bits, lexical": ((5, 8, 2), dict(bits=8, fraction=5, lexical=8)),
    "lags of two, lexical": ((3, 16, 3), dict(
        features=((2, 0), (0, 2), (1, 1), (2, 2), (0, 1)), lexical=8)),
    "17 experts, groups of two": ((3, 17, 2), dict(features=((1, 0), (0, 1)), rate=2)),
    "bias only": ((2, 4, 1), dict(features=())),
    "lexical only": ((4, 6, 2), dict(features=(), lexical=4, lexical_rate=0)),
    "no earlier token": ((4, 5, 2), dict(features=((0, 1), (0, 3)))),
    "one lexical row": ((2, 5, 2), dict(features=((1, 0),), lexical=1)),
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
    check(g, on_chip(**options), tokens(g, 15, seed=shape[1]), seed=7, stall=stall,
          lanes=1 if name == "bias only" else 4)


def test_weights_saturate_at_both_ends():
    g = geometry(3, 8, 2)
    options = on_chip(bits=6, fraction=6, rate=-4, lexical_rate=-4, lexical=2)
    _, want = check(g, options, tokens(g, 12, seed=3))
    for rows in (want.golden.bias, want.golden.lexical, want.golden.weight):
        assert rows.min() == -31 and rows.max() == 31


def test_the_first_scores_are_the_prior_and_ties_come_in_order_of_id():
    g = geometry(2, 32, 4)
    bench, want = check(g, on_chip(), [("token", 3, True)])
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
    check(g, on_chip(features=((0, 1), (1, 0)), lexical=4), operations, seed=seed)


def test_fewer_layers_and_experts_at_run_time():
    operations = tokens(geometry(3, 6, 2), 8, seed=2)
    unit = LinearPredictor(geometry(5, 8, 2), on_chip())
    want = Expected(geometry(3, 6, 2), on_chip(), operations, prior=unit.shape.prior)
    bench = Bench(unit, [("set", {"layers": 3, "experts": 6}), *operations])
    assert bench.rounds == want.rounds


DEEP = ("default features", "8 bits, lexical", "lags of two, lexical", "no earlier token",
        "bias only", "one layer")


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("patient", [True, False])
def test_deep_layers_follow_from_what_is_known(name, patient):
    (layers, *shape), options = SHAPES[name]
    g = geometry(layers, *shape, shared=int(shape[0] == 16))
    operations = [("set", {"depth": 3, "token_depth": layers, "threshold_deep": -90, "limit": 5})]
    for at, operation in enumerate(tokens(g, 10, seed=layers, sequence=4)):
        operations.append(operation)
        if at == 20:
            operations.append(("set", {"depth": 2, "token_depth": 0, "enable": 0}))
        if at == 30:
            operations.append(("set", {"depth": layers, "enable": 1}))
    bench, want = check(g, on_chip(**options), operations, seed=3, patient=patient)
    deep = sum(len(found) - least for found, least in zip(want.rounds, want.least, strict=True))
    assert bool(deep) == (layers > 1)
    assert bool(bench.cut) == (not patient and layers > 1)


def test_a_plan_of_a_whole_token_has_all_layers():
    g = geometry(6, 8, 2)
    operations = [("set", {"token_depth": 6, "limit": 2}), *tokens(g, 2, seed=1)]
    bench, _ = check(g, on_chip(lexical=8), operations, patient=True)
    assert [layer for layer, *_ in bench.rounds[7]] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


@pytest.mark.parametrize("wait", range(0, 60, 3))
def test_a_deep_part_is_cut_at_any_time(wait):
    g = geometry(4, 20, 2, shared=1)
    operations = [("set", {"depth": 4, "token_depth": 4, "limit": 3})]
    for operation in tokens(g, 2, seed=wait):
        operations += [operation, ("wait", wait + len(operations))]
    bench, _ = check(g, on_chip(lexical=8), operations, stall=0.2 * (wait % 2), seed=wait)
    assert all(found[0][0] + 1 <= found[-1][0] + 1 for found in bench.rounds if found)


def test_pace_of_deep_layers_and_of_cutting():
    g = geometry(5, 128, 8)
    operations = [("set", {"limit": 2, "token_depth": 3}), *tokens(g, 1, seed=4)[:1]]
    bench, _ = check(g, on_chip(), operations, stall=0)
    assert np.diff(bench.beats[0])[3] == 1 + 128 // 16 + 13  # the bias is the only row
    for wait in range(60, 110):
        operations += [("token", -1, True), ("wait", wait), ("observe", 0, range(8)), ("wait", 150)]
    bench, want = check(g, on_chip(), operations, stall=0)
    at_once = bench.taken[0] - bench.offered[0]
    waits = np.subtract(bench.taken[2::2], bench.offered[2::9]) - 7 - at_once
    found, wanted = ([len(each) for each in rounds[1::2]] for rounds in (bench.rounds, want.rounds))
    assert len(waits) == 50 and waits.max() == 6
    assert set(found) > {3, 6} and set(wanted) == {6}


def test_a_layer_that_was_not_scored_is_not_learned():
    g = geometry(4, 8, 2)
    operations = [("observe", 0, [1, 2]), ("token", -1, True), ("observe", 1, [3, 4]),
                  ("observe", 3, [3, 4])]
    bench = Bench(LinearPredictor(g, on_chip()), operations)
    assert [len(found) for found in bench.rounds] == [0, 8, 8, 0]
    assert not bench.weights.any()


@pytest.mark.parametrize("broken", [
    dict(rate=5), dict(lexical_rate=2), dict(bits=5), dict(fraction=5), dict(lexical=4),
    dict(features=((0, 1), (0, 2), (0, 3), (2, 0))), "prior", "sigmoid", "rounding"])
def test_a_wrong_unit_is_noticed(broken, monkeypatch):
    g = geometry(4, 8, 2)
    options = on_chip(lexical=8, bits=8)
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
    options = on_chip(lexical=2)
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
    assert bench.idle - bench.taken[-1] == 128 // 4 + rows + 11


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
