"""Rounds of candidates worked out from scores are those of golden's units."""

import numpy as np
import pytest

from stmoe.config import preset
from stmoe_golden.predict.quality import stretch_of
from stmoe_golden.predict.registry import make
from stmoe_golden.predict.unit import LearnedUnit, shape_of
from stmoe_golden.timing.stimulus import rounds_at_token, rounds_by_score, rounds_of
from support.synthetic import synthetic

TRACE = synthetic(seed=3, layers=5, experts=12, top_k=3, tokens=30, sequences=2)
CONFIG = preset("tiny").replace(model_layers=5, model_experts=12, model_top_k=3, slots=14,
                                router_layers=0)
FIRST = np.isin(np.arange(TRACE.tokens), TRACE.offsets)


def scores(name):
    return make(name, shape_of(CONFIG)).run(stretch_of(TRACE, 0, TRACE.tokens))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_scores_of_several_depths_make_the_units_rounds(depth):
    unit = LearnedUnit(CONFIG, threshold=-104, limit=12, depth=depth, token_depth=depth)
    wanted = rounds_of(CONFIG, unit, TRACE.experts.astype(np.int64), TRACE.token, FIRST)
    found = rounds_by_score(CONFIG, [scores(f"linear:depth={deep}")
                                     for deep in range(1, depth + 1)], -104, 12)
    assert np.array_equal(found.round["segment"], wanted.round["segment"])
    for field in ("about", "first"):
        assert np.array_equal(found.segment[field], wanted.segment[field])
    assert len(found.candidate) > 400 and np.array_equal(found.candidate, wanted.candidate)
    other = rounds_by_score(CONFIG, scores("linear"), -90, 12)
    assert not np.array_equal(other.candidate, wanted.candidate)


def test_a_tokens_round_names_the_best_of_its_first_layers():
    whole = scores("linear:depth=64")
    found = rounds_at_token(CONFIG, whole, -1 << 29, 3, 2)
    assert found.round["segment"].tolist() == [
        2 * (t + (step > 0)) for t in range(TRACE.tokens) for step in range(6)] + [2 * TRACE.tokens]
    best = np.argsort(-whole[7, 1], kind="stable")[:3]
    assert found.segment["about"][15] == 1
    assert found.candidate["expert"][45:48].tolist() == best.tolist()
