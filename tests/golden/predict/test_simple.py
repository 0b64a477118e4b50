"""Popularity, previous token, activation matrix, look-ahead: cases worked by hand."""

import numpy as np
import pytest

from stmoe_golden.predict.activation_matrix import ActivationMatrix
from stmoe_golden.predict.lookahead import Lookahead, margins
from stmoe_golden.predict.popularity import AgeingPopularity, Popularity
from stmoe_golden.predict.predictor import NEVER, Shape, Stretch, by_definition
from stmoe_golden.predict.previous_token import PreviousToken
from stmoe_golden.predict.published import Cct, Table
from stmoe_golden.predict.table import TablePredictor

PAIR = Shape(layers=2, experts=4, top_k=2)


def tokens(*routed, first=(0,)):
    experts = np.array(routed, np.int64)
    begins = np.zeros(len(experts), bool)
    begins[list(first)] = True
    return Stretch(experts, np.full(len(experts), -1), begins)


def test_popularity_counts_the_profile_and_nothing_else():
    golden = Popularity(PAIR)
    golden.profile(tokens([[0, 1], [2, 3]], [[0, 2], [2, 3]], [[0, 1], [2, 0]]))
    want = [[65536, 43690, 21845, 0], [21845, 0, 65536, 43690]]
    assert golden.run(tokens([[3, 2], [1, 0]], [[3, 2], [1, 0]])).tolist() == [want, want]


def test_ageing_popularity_halves_at_rate_one():
    scores = AgeingPopularity(PAIR, rate=1).run(
        tokens([[0, 1], [2, 3]], [[0, 2], [2, 3]], [[0, 1], [2, 3]]))
    assert scores[:, 0].tolist() == [[0] * 4, [32768, 32768, 0, 0], [49152, 16384, 32768, 0]]


def test_previous_token_ranks_and_forgets_at_a_sequence():
    scores = PreviousToken(PAIR).run(
        tokens([[0, 1], [3, 2]], [[1, 0], [2, 3]], [[0, 1], [0, 1]], first=(0, 2)))
    assert scores[1].tolist() == [[2, 1, 0, 0], [0, 0, 1, 2]]
    assert (scores[0] == 0).all() and (scores[2] == 0).all()


def test_activation_matrix_takes_the_most_similar_sequence():
    golden = ActivationMatrix(PAIR)
    first = [[[0, 1], [2, 3]]] * 4
    second = [[[2, 3], [0, 1]]] * 2
    scores = by_definition(golden, tokens(*first, *second, [[2, 3], [1, 0]], [[2, 0], [1, 3]],
                                          first=(0, 4, 6)))
    assert golden.stored == 2 and golden.length[:2].tolist() == [4, 2]
    assert scores[3].tolist() == [[1024, 1024, 0, 0], [0, 0, 1024, 1024]], "none stored: itself"
    assert (scores[6] == 0).all(), "nothing known of a new sequence"
    assert scores[7].tolist() == [[0, 0, 1024, 1024], [1024, 1024, 0, 0]], "the second"


def test_a_full_collection_replaces_the_most_similar():
    golden = ActivationMatrix(PAIR, capacity=2)
    a, b = [[0, 1], [2, 3]], [[2, 3], [0, 1]]
    golden.run(tokens(a, a, b, b, [[2, 3], [0, 2]], a, first=(0, 2, 4, 5)))
    assert golden.stored == 2 and golden.length.tolist() == [2, 1]
    assert golden.past[1].reshape(2, 4).tolist() == [[0, 0, 1, 1], [1, 0, 1, 0]]


def test_margin_is_zero_at_the_last_chosen_and_clipped():
    ahead = np.array([[5, 9, 7, 7], [1000, -1000, 10, 0], [-2000, -2, -1, -3]], np.int32)
    assert margins(ahead, 2).tolist() == [[-2, 2, 0, 0], [511, -512, 0, -10], [-512, 0, 1, -1]]


def test_lookahead_scores_the_next_layer_only():
    stretch = tokens([[0, 1], [2, 3]])
    object.__setattr__(stretch, "ahead", np.array([[[8, 6, 7, 5], [9, 9, 9, 9]]], np.int32))
    scores = Lookahead(PAIR).run(stretch)
    assert scores[0].tolist() == [[NEVER] * 4, [1, -1, 0, -2]]


@pytest.mark.parametrize("kind, switch", [(Table, {}), (Cct, {"use_ht": False})])
def test_table_scores_are_those_of_the_hardware_s_twin(kind, switch, make_stretch):
    stretch = make_stretch(3)
    shape = Shape(4, 12, 3)
    golden, twin = kind(shape), TablePredictor(4, 12, 3, **switch)
    golden.profile(stretch)
    twin.profile(stretch.experts, np.array([0, len(stretch)]))
    scores = golden.run(stretch)
    assert (scores[:, 0] == NEVER).all()
    for t, routed in enumerate(stretch.experts):
        for layer in range(4):
            found = twin.observe(layer, routed[layer], bool(stretch.first[t]))
            if layer < 3:
                after = scores[t, layer + 1]
                order = sorted(range(12), key=lambda e: (-after[e], e))
                assert found == [(e, after[e]) for e in order if after[e] >= golden.threshold]
    assert (golden.inner.ids == twin.ids).all() and (golden.inner.conf == twin.conf).all()
