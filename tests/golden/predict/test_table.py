"""TablePredictor by hand-worked cases, and its evaluator against the study that it restates."""

import functools
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from stmoe_golden.predict.evaluate import evaluate
from stmoe_golden.predict.table import SHARED_SCORE, TablePredictor

SHARED = Path(__file__).parents[3] / ".." / "shared"
TRACE = SHARED / "traces" / "gpt-oss-20b-math.npz"
STUDY = SHARED / "studies" / "predictors.py"


def random_trace(seed, tokens=60, layers=5, experts=16, k=3):
    rng = np.random.default_rng(seed)
    drift = rng.permuted(np.tile(np.arange(experts), (layers, 1)), axis=1)
    trace = np.zeros((tokens, layers, k), np.uint8)
    for t in range(tokens):
        start = rng.integers(experts)
        for layer in range(layers):
            near = (start + rng.choice(5, k, replace=False)) % experts
            trace[t, layer] = drift[layer][near]
    return trace, np.array([0, 20, 21, 45, tokens])


def test_unprofiled_rows_hold_the_first_experts():
    ids, conf = TablePredictor(3, 8, 4).rows()
    assert ids.shape == (2, 8, 4) and (ids == np.arange(4)).all() and (conf == 2).all()


def test_profile_counts_within_tokens_and_breaks_ties_by_id():
    golden = TablePredictor(2, 4, 2)
    trace = np.array([[[0, 1], [3, 2]], [[0, 2], [3, 1]], [[3, 2], [0, 1]], [[0, 1], [0, 1]]])
    golden.profile(trace, np.array([0, 2, 3]))  # the last token is not profiled
    assert golden.rows()[0][0].tolist() == [[3, 1], [2, 3], [1, 0], [0, 1]]


def test_scores_add_and_order_is_falling_score_then_id():
    golden = TablePredictor(2, 8, 2, shared_units=2)
    golden.load_rows([[[4, 5], [5, 6], *[[0, 1]] * 6]], [[[1, 3], [2, 2], *[[2, 2]] * 6]])
    assert golden.observe(0, [0, 1], True) == [(8, SHARED_SCORE), (9, SHARED_SCORE), (5, 5), (6, 2)]
    assert golden.observe(1, [6, 4], True) == []
    again = golden.observe(0, [1, 0], False)  # rows learned [4:2 5:2] [5:1 6:3]; HT has 6, 4
    assert again == [(8, 63), (9, 63), (6, 5), (4, 4), (5, 3)]
    assert golden.counts() == {"row_reads": 6, "row_writes": 2, "score_adds": 10, "predicted": 9,
                               "ht_reads": 1, "ht_writes": 3}


def test_replacement_takes_the_highest_ranked_expert_not_in_the_row():
    golden = TablePredictor(2, 8, 3)
    golden.load_rows([[[0, 5, 1], *[[0, 1, 2]] * 7]], [[[0, 3, 0], *[[2, 2, 2]] * 7]])
    golden.observe(0, [0], True)
    golden.observe(1, [5, 7, 6], True)
    ids, conf = golden.rows()
    assert ids[0, 0].tolist() == [7, 5, 6] and conf[0, 0].tolist() == [2, 3, 2]
    golden.load_rows([[[0, 5, 1], *[[0, 1, 2]] * 7]], [[[0, 3, 0], *[[2, 2, 2]] * 7]])
    golden.observe(0, [0], True)
    golden.observe(1, [5, 7], True)  # nothing left for the third entry
    ids, conf = golden.rows()
    assert ids[0, 0].tolist() == [7, 5, 1] and conf[0, 0].tolist() == [2, 3, 0]


@pytest.mark.parametrize("steps, learns", [
    ([(0, True), (1, True)], True), ([(0, True), (1, False)], False),
    ([(0, True), (2, True)], False),
    ([(1, True), (0, True)], False), ([(0, True), (0, True), (1, True)], True)])
def test_only_adjacent_observations_of_one_token_are_learned(steps, learns):
    golden = TablePredictor(3, 8, 2)
    for layer, first in steps:
        golden.observe(layer, [6, 7], first)
    assert (golden.counters.row_writes > 0) is learns


def test_history_is_ignored_on_first_tokens_and_forgotten_by_new_sequence():
    golden = TablePredictor(2, 8, 2, use_cct=False)
    golden.observe(1, [6, 7], False)
    assert golden.observe(0, [0, 1], True) == []
    assert golden.observe(0, [0, 1], False) == [(6, 2), (7, 2)]
    golden.new_sequence()
    assert golden.observe(0, [0, 1], False) == []


def test_disabled_forgets():
    golden = TablePredictor(2, 8, 2)
    golden.observe(1, [6, 7], False)
    golden.enable = False
    assert golden.observe(0, [0, 1], False) == golden.observe(1, [0, 1], False) == []
    golden.enable = True
    assert [e for e, _ in golden.observe(0, [0, 1], False)] == [0, 1]
    assert golden.counters.row_writes == 0


@pytest.mark.parametrize("bad", [dict(threshold=64), dict(threshold=-1)])
def test_bad_threshold_is_refused(bad):
    with pytest.raises(ValueError, match="threshold must be"):
        TablePredictor(2, 8, 2, **bad)


def test_bad_rows_and_observations_are_refused():
    golden = TablePredictor(2, 4, 2)
    ids, conf = golden.rows()
    for broken in (ids[:, :2], ids * 0, ids + 3):
        with pytest.raises(ValueError):
            golden.load_rows(broken, conf)
    for experts in ([], [0, 0], [0, 1, 2]):
        with pytest.raises(ValueError, match="experts must be"):
            golden.observe(0, experts, False)


@pytest.mark.parametrize("options", [
    {}, dict(use_ht=False), dict(use_cct=False), dict(threshold=4)])
def test_compiled_evaluation_equals_definition(options):
    trace, offsets = random_trace(3)
    plain = evaluate(trace, offsets, 1, compiled=False, **options)
    assert plain == evaluate(trace, offsets, 1, **options)
    assert 0 < plain.recall < 1


@functools.cache
def load_study():
    spec = importlib.util.spec_from_file_location("study", STUDY)
    study = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(study)
    return study


@pytest.mark.skipif(not (TRACE.exists() and STUDY.exists()), reason="no shared traces here")
@pytest.mark.parametrize("use_ht, threshold", [(True, 2), (False, 2), (True, 4)])
def test_evaluation_agrees_with_the_study(use_ht, threshold):
    study = load_study()
    data = np.load(TRACE)
    offsets = data["offsets"][:21]
    trace = data["experts"][:offsets[-1]]
    want = study.table_predictor(trace.astype(np.int64), offsets, 32, 4, 4, threshold, use_ht)
    found = evaluate(trace, offsets, 4, experts=32, threshold=threshold, use_ht=use_ht)
    assert found == pytest.approx(want, abs=0.005), (found, want)
    other = evaluate(trace, offsets, 4, experts=32, threshold=threshold + 1, use_ht=use_ht)
    assert other != pytest.approx(want, abs=0.005)  # the comparison can fail
