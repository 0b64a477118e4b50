"""Statistics of traces, against counts by hand and naive loops."""

import json
from itertools import pairwise

import numpy as np
import pytest

from stmoe_golden.trace import Trace
from stmoe_golden.traces.statistics import BLOCK, statistics
from support.synthetic import synthetic


def trace(experts, offsets=None, **fields):
    experts = np.asarray(experts)
    return Trace(name="t", experts=experts, offsets=[0, len(experts)] if offsets is None else
                 offsets, **(dict(num_experts=8) | fields))


def random_trace(seed=3, tokens=90, layers=3, experts=8, top_k=2, offsets=(0, 20, 21, 90)):
    rng = np.random.default_rng(seed)
    chosen = np.argsort(rng.random((tokens, layers, experts)))[..., :top_k]
    return trace(chosen, np.array(offsets), num_experts=experts)


def test_reuse_by_hand():
    found = statistics(trace([[[0, 1]], [[1, 2]], [[0, 1]], [[4, 5]]]), lags=4)["reuse"]
    # lag 1: 1 of 2, 1 of 2, 0 of 2; lag 2: 2 of 2, 0 of 2; lag 3: 0 of 2; lag 4: no token
    assert found["by_layer"] == [[1 / 3, 0.5, 0, None]]
    assert found["overall"] == [1 / 3, 0.5, 0, None] and found["lags"] == [1, 2, 3, 4]


def test_reuse_does_not_cross_sequences():
    routing = [[[0, 1]], [[0, 1]], [[2, 3]], [[2, 3]]]
    assert statistics(trace(routing), lags=1)["reuse"]["overall"] == [2 / 3]
    assert statistics(trace(routing, [0, 2, 4]), lags=1)["reuse"]["overall"] == [1]
    assert statistics(trace(routing, [0, 1, 2, 3, 4]), lags=1)["reuse"]["overall"] == [None]


def test_reuse_equals_a_naive_loop():
    some = random_trace()
    found = statistics(some, lags=24)["reuse"]["by_layer"]
    for layer in range(some.layers):
        for lag in range(1, 25):
            shares = []
            for start, end in pairwise(some.offsets.tolist()):
                for t in range(start + lag, end):
                    now, then = (set(some.experts[i, layer].tolist()) for i in (t, t - lag))
                    shares.append(len(now & then) / some.top_k)
            assert found[layer][lag - 1] == pytest.approx(np.mean(shares))


def test_a_layer_that_follows_the_one_before_is_told_exactly():
    rng = np.random.default_rng(1)
    before = np.argsort(rng.random((4 * BLOCK, 8)))[:, :2]
    after = np.array([3, 6, 1, 0, 2, 7, 5, 4])[before]
    result = statistics(trace(np.stack([before, after], axis=1)))
    found = result["next_layer"]["by_layer"]
    assert found["recall"] == [1.0] and found["popular_recall"][0] < 0.5
    assert result["chance"] == 0.25


def test_single_expert_layers_that_determine_each_other_share_all_their_bits():
    before = np.arange(8 * 40)[:, None] % 8
    routing = np.stack([before, (5 * before + 3) % 8], axis=1)
    found = statistics(trace(routing))["next_layer"]["by_layer"]
    assert found["mutual_information_bits"] == [pytest.approx(3)]
    assert found["cramers_v"] == [pytest.approx(1)] and found["recall"] == [1]
    assert found["shuffled_information_bits"][0] < 0.3


def test_independent_layers_share_nothing():
    found = statistics(random_trace(tokens=4000, offsets=(0, 4000)))["next_layer"]["overall"]
    assert found["mutual_information_bits"] < 0.01 and found["cramers_v"] < 0.06
    assert abs(found["mutual_information_bits"] - found["shuffled_information_bits"]) < 0.003
    assert abs(found["recall"] - 0.25) < 0.04


def test_association_equals_a_naive_table():
    some = random_trace()
    found = statistics(some)["next_layer"]["by_layer"]
    for layer in range(some.layers - 1):
        table = np.zeros((8, 8))
        for token in some.experts.tolist():
            for i in token[layer]:
                for j in token[layer + 1]:
                    table[i, j] += 1
        p = table / table.sum()
        outer = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
        bits = sum(p[i, j] * np.log2(p[i, j] / outer[i, j])
                   for i in range(8) for j in range(8) if p[i, j])
        chi2 = table.sum() * ((p - outer)**2 / outer).sum()
        assert found["mutual_information_bits"][layer] == pytest.approx(bits)
        assert found["cramers_v"][layer] == pytest.approx(np.sqrt(chi2 / table.sum() / 7))


def test_recall_is_learned_on_one_half_and_measured_on_the_other():
    """Layer 1 follows layer 0 in even blocks and leads elsewhere in odd ones: nothing carries."""
    before = np.arange(4 * BLOCK)[:, None] % 4
    odd = np.arange(4 * BLOCK)[:, None] // BLOCK % 2
    routing = np.stack([before, np.where(odd, 4 + before, before)], axis=1)
    assert statistics(trace(routing))["next_layer"]["by_layer"]["recall"] == [0]


def test_lookahead_recall_ranks_its_logits():
    routing = np.array([[[0, 1], [2, 3]], [[0, 1], [4, 5]]])
    ahead = np.zeros((2, 2, 8), np.float16)
    ahead[0, 0, [2, 3]] = 1, 2  # both
    ahead[1, 0, [5, 7]] = 1, 2  # one of two
    found = statistics(trace(routing, lookahead=ahead))["next_layer"]
    assert found["by_layer"]["lookahead_recall"] == [0.75]
    assert statistics(trace(routing))["next_layer"]["overall"]["lookahead_recall"] is None


def test_popularity_by_hand():
    even = statistics(trace([[[0, 1]], [[2, 3]], [[4, 5]], [[6, 7]]]))["popularity"]
    assert even["overall"] == {"entropy_bits": 3, "gini": pytest.approx(0),
                               "top_tenth_share": 0.125, "unused": 0}
    one = statistics(trace([[[0]]] * 5))["popularity"]
    assert one["overall"] == {"entropy_bits": 0, "gini": pytest.approx(7 / 8),
                              "top_tenth_share": 1, "unused": 7}
    assert one["counts"] == [[5, 0, 0, 0, 0, 0, 0, 0]]
    many = statistics(trace([[[i % 20]] for i in range(40)], num_experts=20))["popularity"]
    assert many["overall"]["top_tenth_share"] == pytest.approx(0.1)


def test_domains_differ_by_total_variation():
    routing = [[[0, 1]], [[0, 1]], [[0, 2]], [[6, 7]]]
    found = statistics(trace(routing, [0, 2, 3, 4], domain=[0, 1, 2],
                             metadata={"domains": ["a", "b", "c", "unused"]}))
    assert found["domain_distance"] == {"a / b": 0.5, "a / c": 1.0, "b / c": 1.0}
    assert statistics(trace(routing))["domain_distance"] == {}


def test_one_token_and_one_layer_give_unknowns_and_valid_json():
    found = statistics(trace([[[0, 1]]]))
    assert set(found["reuse"]["overall"]) == {None}
    assert found["next_layer"]["overall"]["recall"] is None
    assert found["next_layer"]["by_layer"]["recall"] == []
    json.dumps(found, allow_nan=False)
    two = statistics(trace([[[0, 1], [2, 3]]]))
    assert two["next_layer"]["by_layer"]["recall"] == [None]
    json.dumps(two, allow_nan=False)


def test_progress_counts_layers():
    seen = []
    statistics(synthetic(1, layers=4, experts=8, top_k=2, tokens=30), progress=seen.append)
    assert seen == [1, 2, 3, 4]
