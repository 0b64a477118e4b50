"""The prediction unit against golden, beat by beat, with stalls, and its latency."""

import random

import numpy as np
import pytest
from amaranth.hdl import Fragment

from stmoe.predict import LinearUnit, NullPredictor, PredictionUnit, TablePredictor
from stmoe_golden.predict import table as golden_table
from support.prediction_bench import COUNTERS, Bench, geometry

SETTINGS = ("enable", "use_cct", "use_ht", "threshold", "layers")


def golden_for(g):
    model = g.config.model
    return golden_table.TablePredictor(model.layers, model.experts, model.top_k,
                                       shared_units=model.shared_units)


def expect(golden, operations):
    rounds = []
    for kind, *rest in operations:
        if kind == "observe":
            layer = rest[0] + 1
            rounds.append([(layer, e, s) for e, s in golden.observe(*rest)])
        elif kind == "load":
            ids, conf = golden.rows()
            for (layer, expert), (row, sure) in rest[0].items():
                ids[layer, expert], conf[layer, expert] = row, sure
            golden.load_rows(ids, conf)
        elif kind == "clear":
            golden.new_sequence()
        else:
            for name, value in rest[0].items():
                setattr(golden, name, bool(value) if name in SETTINGS[:3] else value)
    return rounds


def tokens(g, count, seed, *, sequence=7, spread=3):
    """Routing with locality: related experts across layers and tokens."""
    rng, model = random.Random(seed), g.config.model
    operations = []
    base = 0
    for t in range(count):
        if rng.random() < 0.5:
            base = rng.randrange(model.experts)
        for layer in range(model.layers):
            pool = [(base + 3 * layer + i) % model.experts
                    for i in range(min(model.experts, spread * model.top_k))]
            operations.append(("observe", layer, rng.sample(pool, model.top_k), t % sequence == 0))
    return operations


def random_rows(g, seed, share=1.0):
    rng, model = random.Random(seed), g.config.model
    return {(layer, e): (rng.sample(range(model.experts), model.top_k),
                         [rng.randrange(4) for _ in range(model.top_k)])
            for layer in range(model.layers - 1) for e in range(model.experts)
            if rng.random() < share}


def check(g, operations, **options):
    golden = golden_for(g)
    bench = Bench(g, operations, **options)
    rounds = expect(golden, operations)
    for at, (found, wanted) in enumerate(zip(bench.rounds, rounds, strict=True)):
        assert found == wanted, f"round {at}, {options}: {found} is not {wanted}"
    counts = golden.counts()
    want = {name: counts[name.replace("table", "row")] for name in COUNTERS}
    assert bench.counts == want, options
    return bench, golden


@pytest.mark.parametrize("layers, experts, k, shared, count", [
    (6, 32, 4, 0, 14), (4, 128, 8, 0, 7), (3, 60, 4, 2, 10), (2, 2, 1, 1, 20), (5, 17, 3, 0, 16),
    (1, 8, 2, 0, 6), (3, 16, 16, 0, 4)])
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_token_streams_equal_golden(layers, experts, k, shared, count, stall):
    g = geometry(layers, experts, k, shared)
    operations = tokens(g, count, seed=experts)
    if stall:
        operations.insert(0, ("load", random_rows(g, 5, share=0.3)))
    check(g, operations, seed=layers, stall=stall)


@pytest.mark.parametrize("seed", range(4))
def test_layers_out_of_order_few_experts_loads_clears_and_settings(seed):
    g = geometry(5, 20, 4, shared=seed % 2)
    rng = random.Random(seed)
    operations = []
    layer = 0
    for _ in range(120):
        layer = (layer + 1) % 5 if rng.random() < 0.8 else rng.randrange(5)
        some = rng.sample(range(12), rng.randint(1, 4))
        operations.append(("observe", layer, some, rng.random() < 0.2))
        if rng.random() < 0.05:
            operations.append(("load", random_rows(g, rng.random(), share=0.1)))
        if rng.random() < 0.05:
            operations.append(("clear",))
        if rng.random() < 0.1:
            operations.append(("set", {
                "enable": rng.random() < 0.8, "use_cct": rng.random() < 0.7,
                "use_ht": rng.random() < 0.7, "threshold": rng.choice([0, 1, 2, 2, 3, 5, 14, 63])}))
    check(g, operations, seed=seed)


def test_ties_come_in_order_of_id():
    g = geometry(2, 128, 8)
    rows = {(0, e): ([127 - 9 * w - e for w in range(8)], [2] * 8) for e in range(8)}
    bench, _ = check(g, [("load", rows), ("observe", 0, list(range(8)), True)], stall=0)
    found = [expert for _, expert, _ in bench.rounds[0]]
    assert found == sorted(found) and len(found) == 64


def test_fewer_layers_at_run_time():
    g = geometry(6, 16, 2)
    operations = [op for op in tokens(g, 5, seed=2) if op[1] < 3]
    golden = golden_table.TablePredictor(3, 16, 2)
    bench = Bench(g, [("set", {"layers": 3}), *operations])
    assert bench.rounds == expect(golden, operations)


@pytest.mark.parametrize("broken", ["threshold", "confidence", "first_token", "learning"])
def test_a_wrong_unit_is_noticed(broken, monkeypatch):
    g = geometry(4, 32, 4)
    operations = tokens(g, 6, seed=1, sequence=3)
    want = expect(golden_for(g), operations)
    assert Bench(g, operations, stall=0).rounds == want
    if broken == "threshold":
        wrong = [("set", {"threshold": 3}), *operations]
    elif broken == "confidence":
        wrong = [("load", {(0, operations[0][2][0]): ([0, 1, 2, 3], [2, 2, 1, 2])}), *operations]
    elif broken == "first_token":
        wrong = [(*op[:3], False) for op in operations]
    else:
        wrong = operations
        monkeypatch.setattr("stmoe.predict.learn.Mux", lambda _, one, other: other)
    assert Bench(g, wrong, stall=0).rounds != want


def test_scores_are_final_within_16_and_candidates_within_64_cycles():
    g = geometry(3, 128, 8)
    rng = np.random.default_rng(11)
    # Rows that agree among experts used together, as profiled ones do: 1.8 k candidates.
    pool = rng.permutation(128)[:11].tolist()
    rows = {(layer, e): (rng.permutation(pool)[:8].tolist(), [2] * 8)
            for layer in range(2) for e in range(8)}
    history = [*pool[:5], *(e for e in range(128) if e not in pool)][:8]
    operations = [("load", rows), ("observe", 1, history, False),
                  ("observe", 0, list(range(8)), False)]
    bench, _ = check(g, operations, stall=0)
    last, first, end = bench.last_beats[1], bench.firsts[1], bench.ends[1]
    top = bench.rounds[1][0][2]
    assert len(bench.rounds[1]) == 14
    final = first - last - (3 * 8 + 2 - top) - 2  # less the scan down to the first level in use
    print(f"scores final after {final} cycles, first candidate {first - last}, end {end - last}")
    assert final <= 16
    assert end - last <= 64


def test_null_unit_only_ends():
    g = geometry(4, 16, 2, shared=1, predictor="none")
    bench = Bench(g, [("load", random_rows(g, 1, 0.1)), *tokens(g, 5, 1)], seed=3)
    assert isinstance(bench.unit.units[0], NullPredictor)
    assert bench.rounds == [[]] * 20 and not any(bench.counts.values())


def test_factory_makes_one_interface():
    units = [PredictionUnit(geometry(4, 16, 2, predictor=kind))
             for kind in ("none", "table", "linear", "table+linear")]
    for unit in units:
        Fragment.get(unit, None)
    found = [[type(part) for part in unit.units.values()] for unit in units]
    assert found == [[NullPredictor], [TablePredictor], [LinearUnit], [TablePredictor, LinearUnit]]
    none, table, linear, both = ({*unit.signature.members} for unit in units)
    assert none == table and linear == both == none | {"port"}


def test_a_token_gives_an_empty_round():
    g = geometry(3, 8, 2)
    sequence = tokens(g, 4, 1)
    plain = Bench(g, sequence, seed=3)
    mixed, at = [], []
    for index, operation in enumerate(sequence):
        if index % 3 == 0:
            at.append(len(mixed))
            mixed.append(("token", index == 0))
        mixed.append(operation)
    bench = Bench(g, mixed, seed=4)
    assert all(bench.rounds[index] == [] for index in at)
    assert [r for index, r in enumerate(bench.rounds) if index not in at] == plain.rounds
