"""Statistics of routing on routing whose answer is known."""

import math

import numpy as np
import pytest

from stmoe_golden.model.chi_squared import independence, log10_tail
from stmoe_golden.model.correlation import coactivation, divergence, layer_pair, load, overlap
from stmoe_golden.model.error import ModelError


def even_tail(statistic: float, freedom: int) -> float:
    """log10 of the tail for even ``freedom``, where it is a finite sum."""
    x, terms = statistic / 2, [0.0]
    for i in range(1, freedom // 2):
        terms.append(terms[-1] + math.log(x / i))
    top = max(terms)
    return (top + math.log(sum(math.exp(t - top) for t in terms)) - x) / math.log(10)


@pytest.mark.parametrize("freedom", [2, 4, 30, 960, 3844])
@pytest.mark.parametrize("ratio", [0.2, 0.9, 1.0, 1.05, 2, 30])
def test_tail_of_even_freedom(freedom, ratio):
    found = log10_tail(freedom * ratio, freedom)
    assert found == pytest.approx(even_tail(freedom * ratio, freedom), rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("statistic, freedom, p", [
    (1, 1, 0.31731050786), (3.841458820694, 1, 0.05), (7.814727903251, 3, 0.05),
    (100, 1, 1.5239706048e-23), (961, 961, 0.49395671)])
def test_tail_of_odd_freedom(statistic, freedom, p):
    assert 10 ** log10_tail(statistic, freedom) == pytest.approx(p, rel=2e-3)


def test_impossible_tails_and_tables_are_refused():
    with pytest.raises(ModelError, match="freedom above 0"):
        log10_tail(1, 0)
    with pytest.raises(ModelError, match="at least two rows"):
        independence(np.ones((1, 4)))


def test_independence_of_a_worked_table():
    found = independence(np.array([[10, 20, 0], [20, 10, 0]]))
    assert found.statistic == pytest.approx(20 / 3) and found.freedom == 1
    assert found.cramers_v == pytest.approx(1 / 3)
    assert independence(np.eye(4) * 9).cramers_v == pytest.approx(1)
    assert independence(np.outer([1, 2, 3], [4, 5])).statistic == pytest.approx(0)


def random_routing(rng, sequences=6, tokens=200, layers=3, experts=16, top_k=4):
    scores = rng.random((sequences, tokens, layers, experts))
    return np.argsort(scores, -1)[..., :top_k]


def test_random_routing_is_balanced_and_uncorrelated():
    ids = random_routing(np.random.default_rng(1))
    assert np.abs(load(ids, 16) - 1).max() < 0.15
    pair = layer_pair(ids, 0, 16)
    # The pairs of a token are no independent draws: the shuffled statistic is the yardstick.
    assert pair.test.statistic == pytest.approx(pair.shuffled, rel=0.2)
    assert pair.test.cramers_v < 0.05 and np.abs(pair.lift - 1).max() < 0.5
    shared = overlap(ids, 16, lags=3)
    assert shared.uniform == 1.0 and np.abs(shared.mean - 1).max() < 0.1
    assert np.abs(shared.popular - 1).max() < 0.02


def test_copied_routing_is_found():
    rng = np.random.default_rng(2)
    ids = random_routing(rng)
    ids[:, :, 1] = ids[:, :, 0]
    pair = layer_pair(ids, 0, 16)
    assert pair.test.statistic > 5 * pair.shuffled and pair.test.log10_p < -100
    assert np.diag(pair.lift).min() > 3
    assert layer_pair(ids, 1, 16).test.statistic < 2 * pair.shuffled
    ids[:, 1:] = ids[:, :1]
    assert (overlap(ids, 16, lags=2).mean == 4).all()


def test_coactivation_counts_by_hand():
    ids = np.array([[[[0, 1], [2, 1]], [[0, 2], [2, 0]]]])
    assert coactivation(ids, 0, 3).tolist() == [[1, 1, 2], [0, 1, 1], [1, 0, 1]]


def test_load_and_divergence_by_hand():
    one = load(np.array([[[[0, 1]], [[0, 2]]]]), 4)
    other = load(np.array([[[[3, 1]], [[3, 2]]]]), 4)
    assert one.tolist() == [[2, 1, 1, 0]]
    assert divergence(one, other).tolist() == [0.5]
    assert divergence(one, one).tolist() == [0]
