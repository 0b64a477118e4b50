"""The record of a policy, against numbers made by hand."""

from pathlib import Path

import numpy as np
import pytest

from stmoe.config import Geometry, preset
from stmoe_golden.energy import EnergyError, Technology, energy
from stmoe_golden.metrics import CAUSES, KINDS, accuracy, coverage_by_layer, policy_record
from stmoe_golden.predict.evaluate import evaluate
from stmoe_golden.predict.table import TablePredictor
from support.synthetic import synthetic

TABLES = Path(__file__).parents[2] / "sim/stmoe_sim/energy"
TECHNOLOGY = Technology.load(TABLES / "45nm.toml", TABLES / "memory.toml")
CONFIG = preset("tiny").replace(model_layers=2, model_experts=8, model_top_k=2, router_layers=1)

BLOB = Geometry(CONFIG).blob_beats
ROUTING = np.array([[[0, 1], [2, 3]], [[0, 1], [2, 3]], [[4, 5], [6, 7]]])
FIRST = np.array([True, False, False])
# Of layer 1, per token: all right (first token, not counted); one right of three, and a shared
# expert; one right.
PREDICTED = [[(2, 9), (3, 9)], [], [(8, 63), (2, 4), (5, 3), (6, 2)], [], [(7, 2)], []]
COUNTERS = dict(
    cycles_total=900, cycles_attention=400, cycles_receive=50, cycles_route=0, cycles_verify=50,
    cycles_compute=200, cycles_stall_demand=100, cycles_stall_late=60, cycles_merge=30,
    cycles_output=10, routed=12, hit_resident=3, hit_prefetched=4, hit_late=2, missed=3,
    shared_hit=0, shared_late=0, shared_missed=0, prefetches=8, cancelled=1, dropped=1, evictions=5,
    beats_demand=3 * BLOB, beats_useful=6 * BLOB, beats_wasted=BLOB, beats_link=10 * BLOB,
    bursts=140,
    retries=0, failed=0, predicted=7, table_reads=20, table_writes=8, score_adds=60,
    weight_reads=0, weight_writes=0, rows_added=0, row_beats_read=0, row_beats_written=0,
    mac_words=12 * 96, side_reads=12 * 33, bank_reads=12 * 96, bank_writes=10 * 96, map_reads=30,
    dma_active=700, layers_done=6, tokens=3)
# Warm-up token: everything missed. Then kinds per layer and token.
KIND = {"resident": 2, "prefetched": 3, "late": 4, "miss": 5}


def events(*tokens):
    log = [[0, 14, 0, 0, 0, 0]]
    for token in tokens:
        for layer, kinds in enumerate(token):
            log.append([0, 1, layer, 0, 0, len(kinds)])
            log += [[0, KIND[kind], layer, e, 0, 0] for e, kind in enumerate(kinds)]
            log += [[0, 9, layer, 0, 0, 0], [0, 5, layer, 8, 0, 0], [0, 13, layer, 0, 0, 0]]
    return log


EVENTS = events([["miss"] * 2] * 2,
                [["resident", "miss"], ["prefetched", "late"]],
                [["resident", "miss"], ["prefetched", "prefetched"]],
                [["resident", "miss"], ["prefetched", "late"]])


def record(**changes):
    return policy_record(**(dict(
        name="table", geometry=Geometry(CONFIG), counters=COUNTERS, tokens=3, on_demand_cycles=1800,
        technology=TECHNOLOGY, memory="lpddr4-3200", mismatches=0, routing=ROUTING, first=FIRST,
        predicted=PREDICTED, events=EVENTS) | changes))


def test_the_record_by_hand():
    found = record()
    assert (found["name"], found["tokens"], found["cycles"]) == ("table", 3, 900)
    assert found["cycles_per_token"] == 300 and found["speedup"] == 2.0
    assert found["recall"] == 2 / 4 and found["precision"] == 2 / 4 and found["set_size"] == 4 / 4
    assert [found[kind] for kind in KINDS] == [3 / 12, 4 / 12, 2 / 12, 3 / 12]
    assert found["coverage"] == pytest.approx(9 / 12)
    assert found["traffic"] == pytest.approx(10 / 12)
    assert sum(found["stalls"].values()) == found["cycles"] and set(found["stalls"]) == set(CAUSES)
    assert found["coverage_by_layer"] == [0.5, 1.0]
    assert found["split_by_layer"]["prefetched_late"] == pytest.approx([0, 2 / 6])
    want = energy(COUNTERS, Geometry(CONFIG), TECHNOLOGY, "lpddr4-3200")
    assert found["energy"] == pytest.approx({name: pj / 3 for name, pj in want.items()})
    assert found["energy_pj_per_token"] == pytest.approx(sum(want.values()) / 3)
    assert found["counters"] == COUNTERS and found["mismatches"] == 0


def test_nothing_predicted_has_no_accuracy_and_nothing_simulated_no_speed_up():
    found = record(predicted=[[]] * 6, on_demand_cycles=None)
    assert found["recall"] is found["precision"] is found["set_size"] is found["speedup"] is None
    assert accuracy(ROUTING, np.ones(3, bool), PREDICTED, 8) == (None, None, None)


def test_shared_experts_are_in_traffic_but_not_in_coverage():
    found = record(counters=COUNTERS | {"shared_missed": 4, "shared_hit": 4})
    assert found["coverage"] == pytest.approx(9 / 12) and found["traffic"] == pytest.approx(10 / 20)


def test_accuracy_equals_that_of_the_whole_trace_study():
    trace = synthetic(3, layers=4, experts=16, top_k=3, tokens=90, sequences=6)
    start = int(trace.offsets[2])
    predictor = TablePredictor(4, 16, 3)
    predictor.profile(trace.experts, trace.offsets[:3])
    first = np.isin(np.arange(start, 90), trace.offsets)
    rounds = [predictor.observe(layer, trace.experts[t, layer].tolist(), bool(first[t - start]))
              for t in range(start, 90) for layer in range(4)]
    found = accuracy(trace.experts[start:], first, rounds, 16)
    want = evaluate(trace.experts, trace.offsets, 2, experts=16, compiled=False)
    assert found.recall == pytest.approx(want.recall)
    assert found.set_size == pytest.approx(want.set_size)
    assert found.precision == pytest.approx(want.precision)
    broken = [*rounds[1:], rounds[0]]
    assert accuracy(trace.experts[start:], first, broken, 16).recall != pytest.approx(want.recall)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="3 tokens x 2 layers, not 5"):
        record(predicted=PREDICTED[:-1])
    with pytest.raises(ValueError, match="100 routed layers must be in the events, not 8"):
        coverage_by_layer(EVENTS, 2, 8, 100)
    with pytest.raises(ValueError, match="tokens must be at least 1"):
        record(tokens=0)
    with pytest.raises(EnergyError, match="memory 'sram' has no entry"):
        record(memory="sram")
