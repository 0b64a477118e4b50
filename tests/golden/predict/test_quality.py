"""Ranks, ties, thresholds and windows of the measurement."""

import numpy as np
import pytest

from stmoe_golden.predict import quality
from stmoe_golden.predict.predictor import NEVER, Shape
from stmoe_golden.predict.quality import judge, measure, measured_window, stretch_of
from stmoe_golden.predict.registry import make
from stmoe_golden.trace import Trace, TraceError
from support.synthetic import synthetic


def test_ranks_go_by_score_then_id_and_never_is_not_offered():
    scores = np.array([[[5, 7, 5, NEVER, 7]]], np.int32)
    found = judge(scores, np.array([[[2, 4, 3]]]), 6)
    assert found.rank.tolist() == [[[3, 1, 5]]]
    assert (found.offered[0, 0], found.predicted[0, 0], found.hit[0, 0]) == (4, 2, 1)
    assert judge(scores, np.array([[[3]]]), NEVER - 5).hit[0, 0] == 0


def test_judge_agrees_with_sorting_on_random_scores():
    rng = np.random.default_rng(1)
    scores = rng.integers(-4, 5, (40, 3, 9)).astype(np.int32)
    experts = np.argsort(rng.random(scores.shape))[..., :2]
    order = np.argsort(-scores, axis=-1, kind="stable")
    want = (order[:, :, None] == experts[..., None]).argmax(-1)
    found = judge(scores, experts, 2)
    assert (found.rank == want).all()
    assert (found.predicted == (scores >= 2).sum(-1)).all()
    broken = judge(scores[..., ::-1].copy(), experts, 2)
    assert (broken.rank != want).any(), "the comparison can fail"


def test_stretch_marks_first_tokens_and_rounds_logits():
    trace = synthetic(1, layers=3, experts=8, top_k=2, tokens=30, sequences=3)
    ahead = np.full((30, 3, 8), 0.3)
    ahead[5] = 1e5
    part = stretch_of(trace, 5, 25, ahead)
    assert np.flatnonzero(part.first).tolist() == [5, 15]
    assert part.ahead.dtype == np.int32 and part.ahead[1, 0, 0] == 19
    assert part.ahead[0, 0, 0] == 32767


def test_blocks_do_not_change_the_outcome(monkeypatch):
    trace = synthetic(1, layers=3, experts=8, top_k=2, tokens=300, sequences=3)
    window, shape, done = measured_window(trace), Shape(3, 8, 2), []
    whole = measure(make("linear", shape), window)
    monkeypatch.setattr(quality, "CELLS", 3 * 8 * 17)
    pieces = measure(make("linear", shape), window, progress=done.append)
    assert (whole.rank == pieces.rank).all() and (whole.hit == pieces.hit).all()
    assert done[-1] == window.tokens == 200 and len(done) == 12


def test_window_counts_decode_tokens_behind_the_profile():
    base = synthetic(1, layers=3, experts=8, top_k=2, tokens=30, sequences=1)
    phase = np.arange(30) >= 12
    trace = Trace(name="one", experts=base.experts, offsets=base.offsets, phase=phase.astype(int))
    window = measured_window(trace)
    assert (window.profile, window.tokens) == ((0, 12), 18), "the prompt is the profile"
    assert measured_window(trace, 0).tokens == 18
    with pytest.raises(TraceError, match="profile tokens must be 0 to 29, not 30"):
        measured_window(trace, 30)
